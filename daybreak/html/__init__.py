"""One layer for every report: templates, their style, their charts."""
