"""Runs looked at while they train and afterwards: what their folders hold, for `daybreak watch` and report.html."""
