"""Write the dashboards that Grafana is given, or check that they are what this says.

    python deploy/grafana/source            write deploy/grafana/dashboards/*.json
    python deploy/grafana/source --check    exit 1 if a file differs

Needs `grafana-foundation-sdk`, Grafana's own library, at the version of deploy/locks/grafana.txt:
its types are the schema of Grafana 11.6, which Grafana 12 reads as well.
"""

import sys
from pathlib import Path

from cache import cache
from cost import cost
from engines import engines
from gpu import gpu
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from overview import service

from experiments import experiments

FOLDER = Path(__file__).parent.parent / "dashboards"


def main(arguments: list[str]) -> int:
    different = []
    for made in (service(), engines(), cache(), experiments(), gpu(), cost()):
        file = FOLDER / f"{made.uid}.json"
        text = JSONEncoder(sort_keys=True, indent=2).encode(made) + "\n"
        if arguments == ["--check"]:
            if not file.exists() or file.read_text() != text:
                different.append(file.name)
        else:
            file.write_text(text)
    if different:
        sys.stderr.write(f"{', '.join(different)}: run python deploy/grafana/source\n")
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
