"""Makes docs/live.svg of what a terminal shows, given as text with ANSI colours on standard input.

In a tmux session, amid a push:  tmux capture-pane -e -p | python docs/screenshot.py > docs/live.svg
"""

import io
import sys

from rich.console import Console
from rich.text import Text

WIDTH = 120

console = Console(record=True, width=WIDTH, file=io.StringIO())
for line in sys.stdin.read().rstrip().splitlines():
    console.print(Text.from_ansi(line), no_wrap=True, overflow="crop")
sys.stdout.write(console.export_svg(title="zfsync push tank/data receiver:pool/backup/data"))
