"""Where a run's records go beside `metrics.jsonl`: TensorBoard, Weights & Biases, MLflow.

All are written from the records. Files of a run that goes on are written anew from those that it
keeps, so that no step is missing or there twice; a server is given only what it has not yet. No
torch.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, Protocol

from momo_platform.application import NAME
from momo_platform.stages.errors import UserError
from momo_platform.training.config import LoggingConfig

logger = logging.getLogger(__name__)
TENSORBOARD, WANDB, MLFLOW = "tensorboard", "wandb", "mlflow"
_TAG = f"{NAME}.fingerprint"

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class RunIdentity:
    """What a run is called, and by what it is known again: the stage's fingerprint. `recipe`, a
    dataclass, is told to the trackers as the run's config."""

    name: str = "run"
    fingerprint: str = ""
    recipe: Any = None

    def config(self) -> dict[str, Any]:
        """The recipe as JSON data."""
        plain = asdict(self.recipe) if is_dataclass(self.recipe) else {"recipe": self.recipe}  # type: ignore[arg-type]
        return json.loads(json.dumps(plain, default=str))


class Tracker(Protocol):
    """One place where records go."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take a step's values, finite ones only. Steps come in ascending order."""
        ...

    def close(self, *, failed: bool = False) -> None:
        """Write what is left and end what was started. `failed`: the run did not reach its end."""
        ...


class TensorBoard:
    """Event files in `<folder>/tensorboard`, made anew from `records`."""

    def __init__(self, folder: Path, records: Records) -> None:
        from tensorboardX import SummaryWriter

        place = folder / TENSORBOARD
        shutil.rmtree(place, ignore_errors=True)
        self._writer = SummaryWriter(str(place))
        _replay(self, records)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)
        self._writer.flush()  # its own thread goes by the wall clock: set back, nothing would show

    def close(self, *, failed: bool = False) -> None:
        self._writer.close()


class Wandb:
    """A run whose id is the fingerprint, so that a restart goes on in it.

    Online where there is a login or WANDB_MODE says so; else offline, in `<folder>/wandb`, made
    anew from `records`.
    """

    def __init__(self, folder: Path, records: Records, run: RunIdentity, group: str) -> None:
        wandb = self._wandb = _imported("wandb", "logging.wandb", "wandb")
        mode = os.environ.get("WANDB_MODE") or (
            "online" if wandb.login(prompt=False) else "offline"
        )
        if mode != "online":
            shutil.rmtree(folder / WANDB, ignore_errors=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", NAME),
            id=run.fingerprint or None,
            name=run.name,
            group=group or None,
            job_type=run.name,
            config=run.config(),
            dir=str(folder),
            mode=mode,
            resume="allow",
            settings=wandb.Settings(console="off", silent=True, disable_git=True),
        )
        if mode != "online":
            _replay(self, records)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step >= self._run.step:  # a run that goes on has the steps before
            self._run.log(dict(values), step=step)

    def close(self, *, failed: bool = False) -> None:
        self._run.finish(exit_code=int(failed))
        self._wandb.teardown()  # ends its service process


class MLflow:
    """A run with the fingerprint as its tag `NAME.fingerprint`, by which a restart finds it.

    At MLFLOW_TRACKING_URI, else in `<folder>/mlflow`, made anew from `records`.
    """

    def __init__(self, folder: Path, records: Records, run: RunIdentity, group: str) -> None:
        mlflow = _imported("mlflow", "logging.mlflow", "mlflow-skinny")
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            (folder / MLFLOW).mkdir(exist_ok=True)
            uri = f"sqlite:///{(folder / MLFLOW / 'mlflow.db').absolute()}"
        self._entities = mlflow.entities
        self._client = client = mlflow.MlflowClient(uri)
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME", NAME)
        experiment = client.get_experiment_by_name(title)
        place_of_run = experiment.experiment_id if experiment else client.create_experiment(title)
        self._last = -1
        found = self._interrupted(place_of_run, run.fingerprint) if run.fingerprint else None
        if found is None:
            tags = {_TAG: run.fingerprint} | ({"group": group} if group else {})
            found = client.create_run(place_of_run, tags=tags, run_name=run.name)
            for key, value in _flat(run.config()).items():
                client.log_param(found.info.run_id, key, str(value)[:500])
        else:
            client.update_run(found.info.run_id, status="RUNNING")
            self._last = max(
                (
                    metric.step
                    for key in found.data.metrics
                    for metric in client.get_metric_history(found.info.run_id, key)
                ),
                default=-1,
            )
        self._id = found.info.run_id
        _replay(self, records)

    def _interrupted(self, experiment: str, fingerprint: str) -> Any:
        """The newest run of the fingerprint that did not reach its end."""
        runs = self._client.search_runs([experiment], f"tags.`{_TAG}` = '{fingerprint}'")
        unfinished = [r for r in runs if r.info.status != "FINISHED"]
        return max(unfinished, key=lambda r: r.info.start_time, default=None)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step <= self._last:
            return
        now = int(time.time() * 1000)
        metrics = [self._entities.Metric(key, value, now, step) for key, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self, *, failed: bool = False) -> None:
        self._client.set_terminated(self._id, status="FAILED" if failed else "FINISHED")


class Forgiving:
    """A tracker whose errors cost one warning, and never the training."""

    def __init__(self, name: str, make: Callable[[], Tracker], say: Callable[[str], None]) -> None:
        self._name, self._say, self._told = name, say, False
        self._tracker: Tracker | None = None
        self._try(lambda: setattr(self, "_tracker", make()))

    def _try(self, do: Callable[[], None]) -> None:
        try:
            do()
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a tracker's library or server does
            if not self._told:
                self._told = True
                text = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
                self._say(f"{self._name} has not all records of this run ({text})")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        tracker = self._tracker
        if tracker is not None:
            self._try(lambda: tracker.log(step, values))

    def close(self, *, failed: bool = False) -> None:
        tracker = self._tracker
        if tracker is not None:
            self._try(lambda: tracker.close(failed=failed))


def open_trackers(
    folder: Path,
    records: Records,
    config: LoggingConfig,
    run: RunIdentity,
    say: Callable[[str], None] = logger.warning,
) -> list[Forgiving]:
    """The trackers that the config names. `records`: what the run has kept of an earlier attempt.

    Raises UserError for one that is not installed.
    """
    wanted: list[tuple[str, Callable[[], Tracker]]] = []
    if config.tensorboard:
        wanted.append(("TensorBoard", lambda: TensorBoard(folder, records)))
    if config.wandb:
        wanted.append(("W&B", lambda: Wandb(folder, records, run, config.group)))
    if config.mlflow:
        wanted.append(("MLflow", lambda: MLflow(folder, records, run, config.group)))
    return [Forgiving(name, make, say) for name, make in wanted]


def keep_files(folder: Path, output: Path) -> None:
    """Copy what trackers left in `folder` to a finished artifact: what lies on no server."""
    wanted = [folder / TENSORBOARD, folder / MLFLOW, *(folder / WANDB).glob("offline-run-*")]
    for source in wanted:
        if source.is_dir() and not source.is_symlink():
            target = output / source.relative_to(folder)
            shutil.copytree(source, target, ignore=_links)


def _links(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_symlink()]


def _imported(module: str, option: str, package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{option}: {package} is not installed: `pip install {package}`, or switch {option} off"
        ) from error


def _replay(tracker: Tracker, records: Records) -> None:
    for record in records:
        finite = {
            key: value
            for key, value in record.items()
            if key != "step" and value is not None and math.isfinite(value)
        }
        tracker.log(int(record["step"]), finite)


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings as `train.optimizer.learning_rate`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{key}.")
        else:
            flat[before + key] = value
    return flat
