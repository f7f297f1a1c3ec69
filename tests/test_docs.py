"""README and how-to: their commands are those of the product, and they run."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from docs_blocks import PAGES, ROOT, blocks
from PIL import Image
from sklearn.datasets import load_digits

from pipelines.commands import main

BLOCKS = list(blocks())
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def names(found):
    return [block.name for block in found]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the files that the pages name, in which `runs/latest/model` is a tiny model.

    Pictures are scikit-learn's digits.
    """
    import torch
    from transformers import ViTConfig, ViTModel

    from momo.export import save
    from momo.model import build_model
    from momo.tokenizer import train_wordpiece
    from pipelines.presets import PRESETS

    folder = tmp_path_factory.mktemp("docs")
    digits = load_digits()
    rows = ["image,caption"]
    for index in range(120):
        label = NAMES[digits.target[index]]
        caption = f"the digit {label} written by hand, number {index}"
        pixels = (255 - digits.images[index] * 15).astype(np.uint8)
        picture = Image.fromarray(pixels).resize((64, 64)).convert("RGB")
        for target in (
            folder / "photos" / f"{index}.png",
            folder / "labels" / label / f"{index}.png",
        ):
            target.parent.mkdir(parents=True, exist_ok=True)
            picture.save(target)
        (folder / "photos" / f"{index}.txt").write_text(caption)
        rows.append(f'photos/{index}.png,"{caption}"')
    picture.save(folder / "apple.png")
    (folder / "captions.csv").write_text("\n".join(rows))
    (folder / "unseen.csv").write_text("\n".join(rows[:40]))
    (folder / "notes.txt").write_text(
        "\n".join(f"note {i} about apples and trees" for i in range(300))
    )
    tone = [f"a {w} day number {i},{w}" for i in range(60) for w in ("good", "bad")]
    (folder / "tone.csv").write_text("\n".join(["text,label", *tone]))
    shape = PRESETS["smoke"]().model
    tokenizer = train_wordpiece(["the digit seven written by hand"] * 9, 200).to_str()
    save(build_model(shape, 0), folder / "runs" / "latest" / "model", tokenizer)
    torch.manual_seed(0)
    vit = ViTConfig(
        hidden_size=shape.width,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        image_size=shape.image_size,
        patch_size=shape.patch_size,
        layer_norm_eps=1e-6,
    )
    ViTModel(vit, add_pooling_layer=False).save_pretrained(folder / "vit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOMO_PRESET", "smoke")
        yield folder


def test_the_readme_is_short():
    text = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S)
    assert len(text.split()) <= 900


@pytest.mark.parametrize(
    "page", [*PAGES, *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("block", BLOCKS, ids=names(BLOCKS))
def test_blocks_are_well_formed(block):
    assert block.mode in ("run", "plan", "syntax", "endpoint")
    if block.language == "python":
        compile(block.code, block.name, "exec")
        return
    assert subprocess.run(["bash", "-n"], input=block.code, text=True).returncode == 0
    for command in block.commands:
        if command.startswith("make "):
            targets = shlex.split(command)[1:]
            done = subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True)
            assert done.returncode == 0, command


PLANNED = [
    (block, command)
    for block in BLOCKS
    for command in block.commands
    if re.match(r"momo (train|plan|evaluate) ", command) and "/shared/" not in command
]


@pytest.mark.parametrize("block, command", PLANNED, ids=[f"{b.name} {c[:40]}" for b, c in PLANNED])
def test_training_commands_can_be_planned(block, command, place, monkeypatch, capsys):
    if "clip/" in command:
        command = command.replace("clip=clip/", "clip=vit/")
    monkeypatch.chdir(place)
    arguments = shlex.split(command)[1:]
    code = main([*arguments, *(["--plan"] if arguments[0] != "plan" else [])])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert "never run" in captured.out


def environment(folder, needs=()):
    """For a block: `momo` on the path, and the packages that it needs in a folder of their own."""
    target = folder / "packages"
    if needs:
        install = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--target",
            str(target),
        ]
        subprocess.run([*install, *needs], check=True, capture_output=True)
    paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
    roots = [str(ROOT), str(ROOT / "platform"), str(target)]
    return os.environ | {"PATH": os.pathsep.join(paths), "PYTHONPATH": os.pathsep.join(roots)}


def run(block, folder, code=None):
    """The block as it stands, in the folder."""
    code = block.code if code is None else code
    program = ["bash", "-euo", "pipefail", "-c", code]
    if block.language == "python":
        program = [sys.executable, "-c", code]
    done = subprocess.run(
        program,
        cwd=folder,
        env=environment(folder, block.needs),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, f"{block.name}\n{code}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def trained(place):
    """The folder after the README's own training command."""
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPProcessor,
        PreTrainedTokenizerFast,
    )

    command = "rm -r runs && momo train --pair.source photos/ --cluster local"
    done = subprocess.run(
        command, shell=True, cwd=place, env=environment(place), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    small |= {"intermediate_size": 64, "projection_dim": 32}
    words = {"vocab_size": 2048, "max_position_embeddings": 32, "eos_token_id": 3}
    config = CLIPConfig(
        text_config=small | words,
        vision_config=small | {"image_size": 32, "patch_size": 16},
        projection_dim=32,
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(place / "runs" / "latest" / "model" / "tokenizer.json"),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32,
    )
    side = {"height": 32, "width": 32}
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=side)
    CLIPModel(config).save_pretrained(place / "clip")
    CLIPProcessor(pictures, tokenizer).save_pretrained(place / "clip")
    return place


RUN = [b for b in BLOCKS if b.mode == "run" and not b.code.startswith("make demo")]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("block", RUN, ids=names(RUN))
def test_blocks_run_as_they_stand(block, trained):
    run(block, trained)


@contextlib.contextmanager
def endpoint(folder):
    """`momo serve` on port 8000, as the pages have it."""
    program = [str(Path(sys.executable).parent / "momo"), "serve", "--cluster", "local"]
    with subprocess.Popen(program, cwd=folder, env=environment(folder)) as server:
        try:
            deadline = time.time() + 180
            while time.time() < deadline:
                assert server.poll() is None
                with contextlib.suppress(OSError):
                    urllib.request.urlopen("http://127.0.0.1:8000/readyz", timeout=5)
                    break
                time.sleep(1)
            yield
        finally:
            server.terminate()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_blocks_of_clients_meet_the_endpoint(trained):
    found = [b for b in BLOCKS if b.mode == "endpoint"]
    assert len(found) >= 2
    with endpoint(trained):
        for block in found:
            run(block, trained)


def test_the_readme_shows_the_recorded_demo():
    import json

    from scripts.record_demo import RECORD, with_table

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_table(readme, json.loads(RECORD.read_text(encoding="utf-8"))) == readme
