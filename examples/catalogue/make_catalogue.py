"""Writes products.csv: 3,000 articles of a tool shop that does not exist, the same ones each time.

python examples/catalogue/make_catalogue.py > examples/catalogue/products.csv
"""

from __future__ import annotations

import csv
import random
import sys

COUNT = 3000
CATEGORIES = {
    "drills": ("Drill", "Hammer drill", "Core drill", "Drill stand"),
    "saws": ("Saw", "Jigsaw", "Circular saw", "Saw blade"),
    "fasteners": ("Screw", "Bolt", "Anchor", "Washer"),
    "safety": ("Helmet", "Gloves", "Goggles", "Ear defenders"),
    "lighting": ("Work light", "Lamp", "Head torch", "Extension reel"),
}
SIZES = ("S", "M", "L", "XL", "10 mm", "12 mm", "250 W", "500 W")


def main() -> None:
    """See the module's docstring."""
    draws = random.Random(18)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(("sku", "name", "category", "price", "stock", "discontinued", "listed_on", "labels"))
    names = list(CATEGORIES)
    for number in range(COUNT):
        category = names[number % len(names)]
        name = f"{draws.choice(CATEGORIES[category])} {draws.choice(SIZES)} no. {number}"
        price = f"{draws.randrange(5, 60_000) / 100:.2f}"
        day = f"20{draws.randrange(15, 26)}-{draws.randrange(1, 13):02}-{draws.randrange(1, 29):02}"
        labels = ";".join(sorted(draws.sample(("spare part", "trade only", "bulky", "new"), draws.randrange(0, 3))))
        discontinued = "yes" if draws.random() < 0.15 else "no"
        sku = f"{category[:2].upper()}-{10_000 + 7 * number}"
        out.writerow((sku, name, category, price, draws.randrange(0, 500), discontinued, day, labels))


if __name__ == "__main__":
    main()
