"""Put a model on the Hugging Face hub: what `momo export` writes of it, in one commit.

momo push --model runs/latest/model --repo me/apples --licence apache-2.0 --dry-run
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from momo_platform.exit_codes import exit_code
from momo_platform.stages.errors import UserError
from pipelines.export_output import (
    CARD,
    NOT_STATED,
    TRANSFORMERS,
    format_of,
    is_written,
    stated_licence,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_NAMED = 5  # of files that are not sent
_HEAD = 12  # lines of the card that a dry run shows


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="momo push",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "--model",
        default="runs/latest/model",
        metavar="FOLDER",
        help="an exported model (default: %(default)s), or a folder of `momo export`, which goes "
        "as it is, with what you wrote into its card",
    )
    result.add_argument("--repo", required=True, metavar="NAME", help="USER/NAME, or ORG/NAME")
    result.add_argument("--private", action="store_true", help="a new repository is private")
    result.add_argument(
        "--licence", default="", metavar="ID", help="of the weights, e.g. apache-2.0"
    )
    result.add_argument(
        "--dry-run",
        action="store_true",
        help="show files, sizes and the card's head; needs neither network nor token",
    )
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: uploaded, or shown; 2: bad input, or the hub refused."""
    again = "the same command sends what the hub does not have yet"
    return exit_code(lambda: _push(arguments), again, place="TMPDIR")


def _push(arguments: Sequence[str] | None) -> int:
    options = parser().parse_args(arguments)
    _check_name(options.repo)
    if not options.dry_run:
        _check_token()
    with _folder(Path(options.model), options.repo, options.licence) as folder:
        files = files_of(folder)
        if options.dry_run:
            print(_shown(folder, files, options.repo, options.private))
            return 0
        address = upload(folder, files, options.repo, options.private)
    print(f"{len(files)} files: {address}")
    return 0


def _check_name(repo: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(f"--repo {repo}: {error}") from error
    if "/" not in repo:
        raise UserError(f"--repo {repo}: say whose it is, as USER/{repo}")


def _check_token() -> None:
    from huggingface_hub import get_token

    if get_token() is None:
        raise UserError(
            "no token for the hub: set HF_TOKEN to one that may write, or run `hf auth login`; "
            "--dry-run needs none"
        )


@contextmanager
def _folder(model: Path, repo: str, licence: str) -> Iterator[Path]:
    """What is uploaded: `model` itself where `momo export` wrote it, else what that would write."""
    if (model / CARD).is_file() and format_of(model):
        _check_card(model / CARD, licence)
        yield model
        return
    if not licence:
        raise UserError(
            "no licence: --licence says how others may use the weights (apache-2.0, cc-by-4.0, …, "
            "or other); the licences of corpora and of initial weights, which the card lists, may "
            "bind it"
        )
    from pipelines.to_transformers import write_folder

    with tempfile.TemporaryDirectory(prefix="momo-push-") as place:
        try:
            write_folder(model, Path(place), repo, licence)
        except (FileNotFoundError, ValueError) as error:
            raise UserError(f"--model {model}: {error}") from error
        yield Path(place)


def _check_card(card: Path, licence: str) -> None:
    stated = stated_licence(card) or NOT_STATED
    if licence and licence != stated:
        raise UserError(
            f"--licence {licence}, but {card} says `license: {stated}`: change it there, or push "
            "the model that this folder was exported from"
        )
    if stated == NOT_STATED and not licence:
        raise UserError(
            f"{card} states no licence (`license: {stated}`): write one there, as apache-2.0, or "
            "give --licence other"
        )


def files_of(folder: Path) -> list[Path]:
    """What is uploaded of a folder, by name: what `momo export` writes. Hidden files and compiled
    Python stay. Raises UserError that names other files."""
    format_ = format_of(folder) or TRANSFORMERS
    shown = [p for p in folder.iterdir() if not p.name.startswith((".", "__pycache__"))]
    others = sorted(p.name for p in shown if not (p.is_file() and is_written(p.name, format_)))
    if others:
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        raise UserError(
            f"{folder} has what `momo export` did not write: {', '.join(others[:_NAMED])}{more}: "
            "move it away; `hf upload` puts other files on the hub"
        )
    return sorted(shown)


def _shown(folder: Path, files: Sequence[Path], repo: str, private: bool) -> str:
    sizes = [file.stat().st_size for file in files]
    rows = [
        f"  {_size(size):>9}  {file.relative_to(folder).as_posix()}"
        for file, size in zip(files, sizes, strict=True)
    ]
    head = (folder / CARD).read_text(encoding="utf-8").splitlines()[:_HEAD]
    lines = (
        f"{repo}, {'private' if private else 'public'}; {len(files)} files, {_size(sum(sizes))}:",
        *rows,
        "",
        f"{CARD} begins:",
        *(f"  {line}".rstrip() for line in head),
        "",
        "nothing was sent (--dry-run)",
    )
    return "\n".join(lines)


def _size(size: int) -> str:
    number = float(size)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def upload(
    folder: Path,
    files: Sequence[Path],
    repo: str,
    private: bool = False,
    api: HfApi | None = None,
) -> str:
    """The address of the commit that brings `files` of `folder` to the model `repo`, made where
    there is none. It has all of them or none.

    Raises UserError where the hub refuses or can't be reached, and for a `private` repository that
    is public already.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = api or HfApi()
    try:
        api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.repo_info(repo).private:
            raise UserError(
                f"--private, but {repo} is public already: make it private on the hub, or choose "
                "another --repo"
            )
        parts = [
            CommitOperationAdd(path_in_repo=f.relative_to(folder).as_posix(), path_or_fileobj=f)
            for f in files
        ]
        return api.create_commit(repo, parts, commit_message="momo push").commit_url
    except UserError:
        raise
    except HfHubHTTPError as error:
        status = error.response.status_code
        told = f"{repo}: the hub answers {status}"
        if status in (401, 403):
            raise UserError(f"{told}: the token must be one that may write to it") from error
        raise UserError(f"{told}: {_first_line(error)}") from error
    except Exception as error:  # the library raises many kinds, most of them of the network's
        raise UserError(
            f"{repo}: the hub at {api.endpoint} did not take it ({_first_line(error)}); look after "
            "the network, then run the same command again"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
