"""Writes the dashboards as JSON, to be imported into Grafana 10.4 or newer.

    generate.py [FOLDER]

Into this folder, unless another is named. `pip install -r requirements.txt` first (Python 3.11).
"""

import sys
import warnings
from pathlib import Path

# The SDK prefers the schema that only Grafana 12 and newer import.
warnings.filterwarnings("ignore", category=DeprecationWarning)

from grafana_foundation_sdk.cog.encoder import JSONEncoder

import daemon
import overview
import server


def main(folder):
    for module in (overview, server, daemon):
        board = module.board().build()
        text = JSONEncoder(sort_keys=True, indent=2).encode(board)
        (folder / f"{board.uid}.json").write_text(text + "\n")


main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
