"""A model card, README.md of a folder for the Hugging Face hub, from plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from momo.initialise.origin import HUB, published

_USE = """```python
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained("{name}", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("{name}", trust_remote_code=True)
inputs = processor(text=["a red apple"], images=["some.png"], return_tensors="pt")
output = model(**inputs)
output.logits_per_image  # scaled cosines [images, texts]
output.matching_logits  # above 0: the text belongs to the picture
```

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{name}", trust_remote_code=True)
texts, pictures = model.encode(["a red apple"]), model.encode(["some.png"])
pairs = model.encode([{{"text": "a red apple", "image": "some.png"}}])
```

The code that `trust_remote_code` runs lies beside the weights (`*.py`) and needs `transformers` and
Pillow. With the package of MoMo on Ray, `import momo.hf` takes its place."""

_ONE_SEED = (
    "The 95 % hold the choice of test examples only. This is one training: another seed moves a "
    "value too."
)


def render_card(
    name: str,
    *,
    recipe: Mapping[str, Any],
    corpora: Sequence[Mapping[str, Any]] = (),
    licence: str = "",
    tasks: Mapping[str, Mapping[str, Any]] | None = None,
    origin: Sequence[Mapping[str, Any]] = (),
    library: str = "transformers",
    use: str = "",
    likeness: str = "",
) -> str:
    """Markdown with the hub's metadata in front.

    `recipe`: names → values, one a line. `corpora`: `name`, `licence`, `rows` each, what is known.
    `licence`: an identifier such as `apache-2.0`; empty: `other`, and the card says so. `tasks`:
    the tasks of a report's metrics, `{name: {metric, value, low, high, n, baseline,
    baseline_method}}`; without `low` and `high` no interval is told.
    `origin`: what the training started from, the oldest first (`momo.initialise.origin_of`); its
    licences bind these weights too, and the card says so. `use`: how it is opened, where that is
    not by transformers; `likeness`: how it compares with the model that it was made of.
    """
    parts = [
        _front(licence, origin, library),
        f"# {name}",
        "One transformer whose layers all process text, images and pairs, after MoMo "
        "([arXiv 2304.05523](https://arxiv.org/abs/2304.05523)). It embeds texts and pictures into "
        "one space of unit vectors and says whether a text belongs to a picture.",
        use or _USE.format(name=name),
        "## Recipe",
        _table(("setting", "value"), [(k, _value(v)) for k, v in recipe.items()]),
        *(["## Started from", _origin(origin)] if origin else []),
        "## Corpora",
        _corpora(corpora),
        "## Measured",
        _measured(tasks or {}),
        *([likeness] if likeness else []),
        "## Licence",
        _licence(licence, origin),
    ]
    return "\n\n".join(parts) + "\n"


def _front(licence: str, origin: Sequence[Mapping[str, Any]], library: str) -> str:
    names = [str(one.get("name", "")) for one in origin]
    on_hub = [n.removeprefix(HUB).partition("@")[0] for n in names if n.startswith(HUB)]
    tags = ["momo", "multimodal", "image-text"]
    if library == "transformers":
        tags.append("sentence-transformers")
    lines = [
        "---",
        f"license: {licence or 'other'}",
        *([f"base_model: {on_hub[-1]}"] if on_hub else []),
        f"library_name: {library}",
        "pipeline_tag: feature-extraction",
        f"tags: [{', '.join(tags)}]",
        "---",
    ]
    return "\n".join(lines)


def _origin(origin: Sequence[Mapping[str, Any]]) -> str:
    columns = ("name", "kind", "licence", "filled", "sha256")
    rows = [
        [", ".join(v) if isinstance(v := one.get(c), list) else _value(v) for c in columns]
        for one in published(origin)
    ]
    return _table(columns, rows)


def _licence(licence: str, origin: Sequence[Mapping[str, Any]]) -> str:
    begun = "the weights that it started from"
    if licence:
        return f"{licence}\n\nThe licences of {begun} bind it too." if origin else licence
    binding = f"the corpora and of {begun}" if origin else "the corpora"
    return f"Not stated by whoever made this card. The licences of {binding} may bind it."


def _corpora(corpora: Sequence[Mapping[str, Any]]) -> str:
    if not corpora:
        return "Not recorded with this model."
    columns = [c for c in ("name", "licence", "rows") if any(c in row for row in corpora)]
    return _table(columns, [[_value(row.get(c)) for c in columns] for row in corpora])


def _measured(tasks: Mapping[str, Mapping[str, Any]]) -> str:
    if not tasks:
        return "Nothing was measured."
    rows = []
    for name, row in tasks.items():
        method = row.get("baseline_method")
        baseline = _value(row.get("baseline")) + (f" ({method})" if method else "")
        count = _value(row.get("n"))
        value = _value(row["value"])
        if row.get("low") is not None and row.get("high") is not None:
            value += f" ({_value(row['low'])} to {_value(row['high'])})"
        rows.append((name, str(row.get("metric", "")), value, count, baseline))
    columns = ("task", "metric", "value (95 %)", "test examples", "trivial baseline")
    return f"{_table(columns, rows)}\n\n{_ONE_SEED}"


def _value(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(c) for c in row) + " |" for row in cells)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
