"""Cluster files, checked without an account."""

import subprocess
from pathlib import Path

import pytest
import yaml

from momo_platform.stages import UserError
from pipelines.cluster_check import CheckOptions, check_preset, main, open_doors, read
from pipelines.packing import always_there, pack
from pipelines.prices import Prices, prices_of, read_table

ROOT = Path(__file__).parents[2]
FILE = ROOT / "cluster.yaml"


@pytest.fixture
def changed(tmp_path):
    """A function: change the checked-in file's mapping → the place of the changed file."""

    def write(change):
        config = yaml.safe_load(FILE.read_text())
        change(config)
        file = tmp_path / "cluster.yaml"
        file.write_text(yaml.safe_dump(config))
        return str(file)

    return write


def test_the_checked_in_file_holds_base_and_large(capsys):
    assert main([str(FILE)]) == 0
    found = capsys.readouterr().out
    assert "base stage3-pair: 1 gpu-spot" in found
    assert "large stage3-pair: 4 gpu-spot" in found


def test_costs_are_hours_times_nodes_and_head():
    config = read(str(FILE))
    prices = {"gpu-spot": 10.0, "data-spot": 1.0, "head": 1.0}
    lines = check_preset(config, "base", CheckOptions(price=prices))
    hours = float(lines[0].split("; ")[1].split()[0])
    dollars = float(lines[0].split(", ")[-1].split()[0].replace(",", ""))
    assert abs(dollars - 11 * hours) < 11 * 0.05 + 0.5  # hours are shown to a tenth
    assert "(11.00 an hour)" in lines[0]
    assert lines[-1].endswith("dollars (--price)")
    with pytest.raises(UserError, match="give dollars an hour of head too"):
        check_preset(config, "base", CheckOptions(price={"gpu-spot": 1.0}))


@pytest.mark.parametrize("file", ["cluster.yaml", "clusters/gcp.yaml"])
def test_the_dated_table_knows_every_machine_of_our_files(file):
    config = read(str(FILE.parent / file))
    prices = prices_of(config, {}, "A100")
    assert isinstance(prices, Prices)
    assert prices.source.startswith("on-demand list prices of 20")
    assert set(prices.hourly) == set(config["available_node_types"])
    assert prices.hourly["gpu"] > prices.hourly["data"] > prices.hourly["head"] > 0
    dearer = prices_of(config, {"head": 9.0}, "A100")
    assert isinstance(dearer, Prices)
    assert dearer.dollars({"head": 2}, hours=3.0) == 54.0
    assert "all three trainings" in check_preset(config, "base", CheckOptions())[-1]


def test_what_the_table_does_not_know_is_said_and_costs_nothing():
    config = read(str(FILE))
    config["provider"]["region"] = "eu-west-3"
    assert "no prices for eu-west-3" in check_preset(config, "base", CheckOptions())[-1]
    config["provider"]["region"] = "us-east-1"
    config["available_node_types"]["data"]["node_config"]["InstanceType"] = "x9.huge"
    del config["available_node_types"]["head"]["node_config"]["InstanceType"]
    told = prices_of(config, {}, "A100")
    assert told == "no prices in us-east-1 for data (x9.huge), head (no machine): give --price"


def test_what_ray_refuses_is_told_with_file_and_field(changed):
    file = changed(lambda c: c.update(idle_timeout_minutes="soon"))
    with pytest.raises(UserError, match=r"cluster\.yaml: idle_timeout_minutes: 'soon'"):
        read(file)
    with pytest.raises(UserError, match="head_node_type"):
        read(changed(lambda c: c.update(head_node_type="nobody")))
    with pytest.raises(UserError, match="No such file"):
        read("nowhere.yaml")


def test_a_preset_that_fits_nowhere_names_its_stage(changed):
    def fewer(config):
        for name in ("gpu", "gpu-spot"):
            config["available_node_types"][name]["max_workers"] = 1

    config = read(changed(fewer))
    assert check_preset(config, "base", CheckOptions())
    with pytest.raises(UserError, match="preset large, stage stage1-image: 32 times"):
        check_preset(config, "large", CheckOptions())

    def small(config):
        for name in ("gpu", "gpu-spot"):
            config["available_node_types"][name]["resources"] = {"CPU": 4, "GPU": 8}

    with pytest.raises(UserError, match="no node type holds {'CPU': 8, 'GPU': 1}"):
        check_preset(read(changed(small)), "base", CheckOptions())


def test_the_head_takes_no_work(changed, capsys):
    def work(config):
        config["available_node_types"]["head"]["resources"] = {"CPU": 8}

    assert main([changed(work)]) == 2
    assert "the head node has CPUs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, told",
    [
        (
            lambda c: c["head_start_ray_commands"].append("ray start --dashboard-host=0.0.0.0"),
            "0.0.0.0",
        ),
        (lambda c: c.pop("head_start_ray_commands"), "opens the dashboard"),
        (lambda c: c.update(setup_commands=[]), "RAY_AUTH_MODE=token"),
        (
            lambda c: c["provider"].update(
                security_group={"IpPermissions": [{"FromPort": 8265, "ToPort": 8265}]}
            ),
            "opens ports 8265",
        ),
    ],
)
def test_what_would_be_open_is_found(changed, change, told):
    assert open_doors(read(str(FILE))) == []
    assert any(told in door for door in open_doors(read(changed(change))))


def test_bundles_are_packed_whole():
    types = {
        "head": {"resources": {"CPU": 0}},
        "small": {"resources": {"CPU": 4}, "max_workers": 2},
        "large": {"resources": {"CPU": 8, "GPU": 2}, "max_workers": 1},
    }
    config = {"available_node_types": types, "head_node_type": "head", "max_workers": 3}
    assert pack([{"CPU": 3}] * 2, config) == {"small": 2}
    assert pack([{"CPU": 1, "GPU": 1}] * 2 + [{"CPU": 6}], config) == {"large": 1}
    with pytest.raises(UserError, match="more nodes than max_workers"):
        pack([{"CPU": 3}] * 6, config)


def test_cluster_env_takes_what_is_set_and_keeps_it_to_itself(tmp_path):
    env = {"PATH": "/usr/bin:/bin:/usr/local/bin", "WANDB_API_KEY": "it's", "SECRET": "not this"}
    script = ROOT / "scripts" / "cluster_env.sh"
    for _ in range(2):  # the token stays
        done = subprocess.run(["sh", script], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        token = (tmp_path / ".cluster/auth_token").read_text()
    file = tmp_path / ".cluster" / "env"
    shown = ["sh", "-c", f'. {file}; printf %s "$WANDB_API_KEY"']
    assert subprocess.run(shown, capture_output=True, text=True).stdout == "it's"
    assert "not this" not in file.read_text()
    assert len(token) == 64
    assert token not in done.stdout
    assert {p.stat().st_mode & 0o077 for p in (tmp_path / ".cluster").iterdir()} == {0}


def test_a_token_that_no_mount_brings_and_a_second_host_are_told():
    config = yaml.safe_load(FILE.read_text())
    del config["file_mounts"]["~/.ray/auth_token"]
    config["head_start_ray_commands"][1] += " --dashboard-host=0.0.0.0"
    first, second = open_doors(config)
    assert "--dashboard-host 0.0.0.0" in first
    assert "file_mounts brings no ~/.ray/auth_token" in second


def no_shape(config):
    config["provider"]["security_group"] = {"IpPermissions": ["a"]}


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--mfu", "0"], "mfu"),
        (["--mfu", "5"], "mfu"),
        (["--price", "gpu-spot", "-1"], "price gpu-spot -1: give dollars"),
        (["--price", "gpu-spot", "nan"], "price gpu-spot nan: give dollars"),
    ],
)
def test_numbers_that_are_none_are_refused(arguments, told, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(FILE), *arguments])
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_field_that_is_not_of_its_kind_is_one_line(changed, tmp_path, capsys):
    assert main([changed(no_shape)]) == 2
    assert "compare it with the checked-in file" in capsys.readouterr().err
    raw = tmp_path / "raw.yaml"
    raw.write_bytes(b"\xff\xfe\x00")
    assert main([str(raw)]) == 2
    assert "is not valid YAML" in capsys.readouterr().err


def test_a_shell_without_a_key_keeps_the_one_that_is_there(tmp_path):
    script = ["sh", str(ROOT / "scripts" / "cluster_env.sh")]

    def run(**environment):
        env = {"PATH": "/usr/bin:/bin:/usr/local/bin", **environment}
        return subprocess.run(script, cwd=tmp_path, env=env, capture_output=True, text=True)

    assert run(WANDB_API_KEY="se'cret").returncode == 0
    kept = (tmp_path / ".cluster" / "env").read_text()
    assert "WANDB_API_KEY='se'\\''cret'" in kept
    assert run().returncode == 0
    assert (tmp_path / ".cluster" / "env").read_text() == kept
    wrong = run(HF_TOKEN="two\nlines")
    assert wrong.returncode == 1
    assert "HF_TOKEN has more than one line" in wrong.stderr
    assert "lines'" not in wrong.stdout + wrong.stderr
    assert (tmp_path / ".cluster" / "env").read_text() == kept


def test_dollars_need_the_gpu_that_hours_are_of_and_the_machines_own_number():
    config = read(str(FILE))
    assert "p4de.24xlarge has A100; give --gpu" in str(prices_of(config, {}, "H100"))
    config["available_node_types"]["gpu"]["resources"]["GPU"] = 16
    with pytest.raises(UserError, match="gpu: p4de.24xlarge has 8 GPUs, resources say 16"):
        prices_of(config, {}, "A100")


def test_nodes_that_always_run_are_paid_for():
    config = read(str(FILE))
    config["available_node_types"]["gpu-spot"]["min_workers"] = 3
    prices = {"gpu-spot": 10.0, "head": 1.0}
    assert "(31.00 an hour)" in check_preset(config, "base", CheckOptions(price=prices))[0]
    config["available_node_types"]["gpu-spot"]["min_workers"] = 9
    with pytest.raises(UserError, match="gpu-spot: min_workers 9 is more than max_workers 4"):
        always_there(config)


def test_the_preferred_of_equal_node_types_is_taken_wherever_it_stands():
    config = read(str(FILE))
    types = config["available_node_types"]
    config["available_node_types"] = dict(sorted(types.items(), key=lambda i: i[0]))
    assert list(config["available_node_types"])[-2:] == ["gpu-spot", "head"]
    assert pack([{"GPU": 8.0}], config) == {"gpu-spot": 1}


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--price", "gpuspot", "1"], "--price gpuspot: no such node type; there are head"),
        ([str(FILE), "--price", "head", "1"], "--price names node types of one file"),
    ],
)
def test_prices_that_hold_for_nothing_are_refused(arguments, told, capsys):
    assert main([str(FILE), *arguments]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, told",
    [
        ("a: b: c", "prices.yaml: the file: mapping values"),
        ("regions: {}", "prices.yaml: date: 'date'"),
        ("date: 2026-11-27\nregions: {r: {m: {dollars: -1}}}", "regions.r.m: dollars -1: give"),
        ("date: 2026-11-27\nregions: {r: {m: {dollars: .nan}}}", "regions.r.m: dollars nan: give"),
        ("date: 2026-11-27\nregions: {r: {m: 3}}", "prices.yaml: regions.r.m"),
    ],
)
def test_a_broken_table_is_told_with_its_place(tmp_path, text, told):
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        read_table(file)
    assert told in str(caught.value)
    with pytest.raises(UserError, match="No such file"):
        read_table(tmp_path / "none.yaml")


@pytest.mark.parametrize("mode", ["tokens", "disabled", ""])
def test_any_other_mode_than_token_is_no_token(mode):
    config = read(str(FILE))
    config["setup_commands"] = [f"export RAY_AUTH_MODE={mode}", "# RAY_AUTH_MODE=token"]
    assert any("RAY_AUTH_MODE=token" in found for found in open_doors(config))


def test_a_quoted_loopback_address_is_one():
    config = read(str(FILE))
    config["head_start_ray_commands"] = ['ray start --dashboard-host="127.0.0.1"; true']
    assert not any("dashboard-host" in found for found in open_doors(config))


def test_what_is_no_cluster_at_all_is_said(tmp_path, capsys):
    file = tmp_path / "other.yaml"
    file.write_text("kind: RayCluster")
    assert main([str(file)]) == 2
    assert "neither a cluster of `ray up` (no provider) nor a RayJob" in capsys.readouterr().err


def test_a_preset_whose_hours_are_not_known_costs_nothing():
    (line,) = check_preset(read(str(FILE)), "smoke", CheckOptions())
    assert line.endswith("hours are not estimated for its trainings")


def test_a_link_to_nothing_that_ray_up_would_read_is_told(changed, tmp_path, monkeypatch, capsys):
    checkout = tmp_path / "checkout"
    (checkout / "runs").mkdir(parents=True)
    (checkout / "runs" / "alive").symlink_to(checkout)
    monkeypatch.chdir(checkout)
    file = changed(lambda config: None)
    assert main([file, "--presets", "base"]) == 0
    (checkout / "runs" / "latest").symlink_to("report/gone")
    assert main([file, "--presets", "base"]) == 2
    told = capsys.readouterr().err
    assert f"{file}: file_mounts: runs/latest is a link to nothing" in told.replace("\n", "")
