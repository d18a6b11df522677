"""Writes `visionops_assets/config/models.csv`, the models that a recipe may name, out of the installed libraries.

    python docs/model_table.py [--again]

Run it after another version of them is pinned. It makes each model whose parameters the table does not have yet, or
with `--again` each, without computing anything: minutes of a processor. Ctrl-C keeps what was counted.
"""

import csv
import dataclasses
import sys

from visionops_assets.config.model_catalogue import TABLE, CataloguedModel, catalogue
from visionops_assets.training.catalogue.published import names, parameters_of, published_model


def main() -> None:
    """Write the table."""
    known = {} if "--again" in sys.argv else {name: row.parameters for name, row in catalogue().items()}
    try:
        for name in names():
            if known.get(name) is None:
                known[name] = parameters_of(name)
    except KeyboardInterrupt:
        print("interrupted: what was not counted is left empty", file=sys.stderr)
    rows = [dataclasses.asdict(published_model(name, known.get(name))) for name in names()]
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        fields = [field.name for field in dataclasses.fields(CataloguedModel)]
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "tested": "yes" if row["tested"] else ""} for row in rows)
    print(f"{TABLE.name}: {len(rows)} models", file=sys.stderr)


if __name__ == "__main__":
    main()
