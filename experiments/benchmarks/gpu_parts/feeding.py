"""How fast readers decode, whether stage 1 waits for them, and what TorchTrainer costs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from experiments.benchmarks.gpu_parts.setting import Cases, Setting
from experiments.benchmarks.gpu_parts.speed import free_memory
from experiments.benchmarks.gpu_parts.stages import one_device, run_loop, stage_update
from experiments.benchmarks.harness import ROOT, Row, compare, say
from experiments.benchmarks.pictures import photographs, write_corpus
from experiments.benchmarks.updates import CUDA, DEVICE, interleaved, on_device, seconds
from momo.model import build_model
from momo.tasks import MoMoTask
from momo.tokenizer import train_wordpiece
from momo_platform.cores import usable_cores
from momo_platform.data.artifacts import MixedSource, Mixture, MixtureIndex, write_mixture
from momo_platform.data.images import prepare_image
from pipelines.artifacts import TokenizerFile
from pipelines.build import build_loaders
from pipelines.modalities import IMAGE
from pipelines.training import TrainingInputs, prepared_role

_REPEATED = 32
_MOST_WAITING, _TRAINER = 3.0, 0.99
_WINDOWS = 5


def _shards(setting: Setting, folder: Path) -> TrainingInputs:
    """A corpus of pictures that repeat (decoding costs the same) and a tokenizer, as a stage's
    inputs; the pictures as the preparation leaves photographs of 4:3, 341×256."""
    stored = setting.preset.picture.stored(setting.preset.model.image_size)
    made = [prepare_image(raw, stored) for raw in photographs(setting.pictures)]
    table = pa.table({"image": pa.array(made, pa.binary())})
    rows, words = Mixture(folder / "rows"), TokenizerFile(folder / "tokenizer")
    every = pa.concat_tables([table] * _REPEATED)
    write_corpus(every, folder / "rows", len(every))
    mixed = Mixture(folder / "mixed")
    write_mixture(mixed.place, MixtureIndex(("image",), (MixedSource("own", 1.0, len(every)),)))
    words.artifact.mkdir()
    tokenizer = train_wordpiece(["a red apple", "a green tree"], setting.model.vocab_size)
    words.path.write_text(tokenizer.to_str(), encoding="utf-8")
    roles = {IMAGE.name: mixed, prepared_role(IMAGE.name): rows}
    return TrainingInputs(tokenizer=words, mixed=roles)


def _loader(setting: Setting, inputs: TrainingInputs, readers: int, **others: Any) -> Any:
    train = one_device(
        setting.preset.training["stage1-image"], setting.stage_rows[1], readers=readers, **others
    )
    arguments = (inputs, train, setting.model, setting.preset.pair_text_length, 0, 1)
    return build_loaders(("image",), *arguments)["image"]


def _loader_rates(setting: Setting, inputs: TrainingInputs, readers: int) -> list[float]:
    """Pictures a second in windows of two batches a reader: they come in turns."""
    loader = _loader(setting, inputs, readers)
    batches = loader.iterate(0)
    try:
        for _ in range(2 * readers):  # starts the readers
            next(batches)
        window = 2 * readers
        rows = setting.stage_rows[1]["image"]
        runs = max(2, setting.runs)
        return [rows / seconds(lambda: next(batches), window) for _ in range(runs)]
    finally:
        batches.close()
        loader.close()


def _input_rows(setting: Setting) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        inputs = _shards(setting, Path(scratch))
        rates = {n: _loader_rates(setting, inputs, n) for n in setting.readers}
        fewest, most = min(setting.readers), max(setting.readers)
        for readers, found in rates.items():
            yield compare(
                f"input: loader alone, {readers} readers on {usable_cores()} cores, 341×256 JPEG",
                found,
                f"with {fewest}",
                rates[fewest],
                unit="pictures/s",
            )
        free_memory()
        update = stage_update(setting, 1)
        rows = setting.stage_rows[1]["image"]
        taken = interleaved(setting.runs, {"update": update}, warm_ups=2, at_least=0.2)["update"]
        del update
        bare = [rows / s for s in taken]
        yield from _fed_rows(setting, inputs, f"{most} readers", bare, most, _MOST_WAITING)
        yield from _fed_rows(setting, inputs, "a resident corpus", bare, 0, None, resident=True)
        if CUDA:
            name = f"{most} readers and nvJPEG"
            yield from _fed_rows(setting, inputs, name, bare, most, None, decode="nvjpeg")


def _fed_rows(
    setting: Setting,
    inputs: TrainingInputs,
    source: str,
    bare: list[float],
    readers: int,
    most_waiting: float | None,
    **others: Any,
) -> Iterator[Row]:
    """The whole loop with the loader. The first window is left out: the readers start."""
    free_memory()
    config, every = setting.preset, setting.window_steps
    rows = setting.stage_rows[1]
    train = one_device(
        config.training["stage1-image"], rows, readers=readers, every_steps=every, **others
    )
    task = on_device(
        lambda: MoMoTask(build_model(config.model), config.training["stage1-image"].task)
    )
    loaders = {"image": _loader(setting, inputs, readers, **others)}
    records = run_loop(task, train, loaders, (1 + _WINDOWS) * every)[1:]
    rates = [r["samples_per_second/image"] for r in records]
    spans = [every * rows["image"] / rate for rate in rates]
    waited = [100 * r["seconds_waiting_for_data"] / s for r, s in zip(records, spans, strict=True)]
    yield compare(
        f"input: stage 1 with {source}: share of its time that it waits for data",
        waited,
        "allowed",
        [_MOST_WAITING],
        unit="%",
        largest_value=most_waiting,
    )
    yield compare(
        f"input: stage 1 with {source}",
        rates,
        "its update alone, on a batch that lies on the device",
        bare,
        unit="pictures/s",
    )


def loading(setting: Setting) -> Cases:
    """The loader alone with few and many readers, and stage 1 with it."""
    return {"pictures": partial(_input_rows, setting)}


def _window_rates(marks: list[dict[str, Any]]) -> list[float]:
    """Samples a second of each logged window but the first."""
    return [told["samples_per_second"] for told in marks if "samples_per_second" in told][1:]


def _trainer_rows(setting: Setting) -> Iterator[Row]:
    """The bare loop before and after, TorchTrainer's between: windows of the same process."""
    from experiments.benchmarks.training import build, ray_marks, train_config
    from momo_platform.cluster import start_ray
    from momo_platform.silence import silence
    from momo_platform.training.loop import Trainer

    free_memory()
    # Ray's workers find the source by it, run from another folder.
    known = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "platform"), known])
    rows, steps = setting.loop_rows, (1 + _WINDOWS) * setting.window_steps
    train = train_config(
        "accumulate", rows, steps, every_steps=setting.window_steps, gpu=DEVICE.type == "cuda"
    )

    def bare(folder: Path) -> list[float]:
        marks: list[dict[str, Any]] = []
        setup = build(setting.loop_model, {}, train, 0, 1)
        Trainer(setup, train, folder, device=DEVICE, progress=lambda x: marks.append(dict(x))).run()
        return _window_rates(marks)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        found = bare(folder / "before")
        free_memory()
        with silence(folder / "ray.log"), start_ray("local"):
            ours = _window_rates(ray_marks(folder / "ray", train, setting.loop_model))
        found += bare(folder / "after")
    say(f"samples/s: TorchTrainer {ours}, bare loop {found}")
    every = sum(rows.values())
    yield compare(
        f"TorchTrainer: steps a second, {', '.join(f'{n} {m}' for m, n in rows.items())}",
        [rate / every for rate in ours],
        "the same loop without Ray",
        [rate / every for rate in found],
        unit="steps/s",
        least_ratio=_TRAINER,
    )


def torch_trainer(setting: Setting) -> Cases:
    """The loop under Ray beside the bare one."""
    return {"loop": partial(_trainer_rows, setting)}
