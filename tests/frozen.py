"""What a report.html of a run holds."""

import json
import re
from pathlib import Path
from typing import Any


def frozen_in(page: Path) -> dict[str, Any]:
    """The data in the page, which asks for nothing from elsewhere."""
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["']?(http|//)|@import|url\(["']?(http|//)""", text)
    script = re.search(r'<script type="application/json" id="frozen">(.*?)</script>', text)[1]
    found: dict[str, Any] = json.loads(script)
    return found
