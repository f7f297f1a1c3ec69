"""Bundled corpora in the graph: which stage fetches what, and which tasks come with them."""

from dataclasses import replace

import pytest

from momo_platform.stages import UserError
from pipelines.bundled import BUNDLES, bundle_at
from pipelines.config import SourceOptions
from pipelines.evaluation.tasks import choose
from pipelines.graph import build_graph
from pipelines.graph.corpora import prepared_rows
from pipelines.graph.evaluation import choose_tasks
from pipelines.modalities import MODALITIES
from pipelines.option_names import with_whole_names
from pipelines.options import parse
from pipelines.presets import PRESETS
from pipelines.report.corpora import place_in_words


def test_the_icons_preset_fetches_icons_and_nothing_of_the_demo():
    graph = build_graph(PRESETS["icons"]())
    assert graph["prepare-pair"].inputs["corpora-icons"] == graph["corpora-icons"]
    assert "corpora" not in graph
    # Pictures are the pairs', drawn and kept once.
    assert "prepare-image" not in graph
    assert graph["mix-image"].inputs["prepared"] is graph["prepare-pair"]
    assert graph["stage1-image"].inputs["image"] is graph["mix-image"]
    sources = graph["prepare-text"].config.sources
    assert [source.name for source in sources] == ["wordnet", "wikipedia", "reviews"]
    assert {source.content for source in sources} == {"icons"}


def test_a_source_may_be_a_bundles_beside_anothers(tmp_path):
    (tmp_path / "own.csv").write_text("image,caption\na.png,a thing\n")
    config = parse(["--preset", "demo", "--pair.source", "icons"])
    assert config.sources.bundle_of("pair") == "icons"
    assert config.sources.bundle_of("image") == "demo"
    prepared, own = prepared_rows(config.sources)
    assert not own
    assert {*prepared["pair"].inputs} == {"corpora-icons"}
    assert {*prepared["image"].inputs} == {"corpora"}
    both = SourceOptions(source=("demo:0.5", "icons", str(tmp_path / "own.csv")))
    prepared, own = prepared_rows(replace(config.sources, given={"pair": both}))
    assert own == {"pair"}
    assert {*prepared["pair"].inputs} == {"corpora", "corpora-icons"}
    # Both have Wikipedia and reviews: these are told apart by their bundles.
    texts = SourceOptions(source=("demo", "icons", str(tmp_path / "own.txt")))
    (tmp_path / "own.txt").write_text("a line of twenty characters or more\n")
    prepared, _ = prepared_rows(replace(config.sources, given={"text": texts}))
    names = [source.name for source in prepared["text"].config.sources]
    assert {"demo-reviews", "icons-reviews", "wordnet", "own"} <= {*names}
    assert len({*names}) == len(names)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("icons:2", "the icons' corpora alone have weights of their own"),
        ("icons", "the icons' corpora have no pictures of their own"),
    ],
)
def test_what_a_bundle_lacks_is_told(tmp_path, given, told):
    option = "--pair.source" if given == "icons:2" else "--image.source"
    own = [] if given == "icons:2" else [str(tmp_path)]
    (tmp_path / "a.png").write_bytes(b"")
    config = parse(["--preset", "demo", *with_whole_names([option]), given, *own])
    with pytest.raises(UserError, match=told):
        prepared_rows(config.sources)


def test_an_unknown_bundle_is_refused():
    with pytest.raises(UserError, match="--bundle 'emoji': give demo or icons"):
        replace(PRESETS["demo"](), bundle="emoji")


def test_auto_is_what_comes_with_the_bundle():
    kinds: dict[str, str] = dict.fromkeys(MODALITIES, "icons")
    names = {task.name for task in choose(["auto"], bundled=kinds)}
    assert {"demo/mnist", "demo/easy_vqa", "demo/movie_sentiment"} <= names
    assert "demo/emoji_category" not in names
    demo = {t.name for t in choose(["auto"], bundled=dict.fromkeys(kinds, "demo"))}
    assert demo == {t.name for t in choose(["demo"])}


def test_beside_the_demos_emoji_no_style_is_unseen():
    mixed: dict[str, str] = dict.fromkeys(MODALITIES, "icons") | {"image": "demo"}
    names = {task.name for task in choose(["auto"], bundled=mixed)}
    assert "icons/image_to_text" in names
    assert not [name for name in names if "unseen" in name]
    assert [t.name for t in choose(["icons/unseen_both_*"], bundled=mixed)]  # asked for by name


def test_no_stage_is_called_as_the_untrained_model():
    config = PRESETS["demo"]()
    stage = config.training["stage1-image"]
    with pytest.raises(UserError, match="before any training is called that"):
        replace(config, training={"untrained": stage})


def test_tasks_read_the_corpora_of_the_presets_bundle_or_have_their_own():
    sources = PRESETS["icons"]().sources
    prepared, own = prepared_rows(sources)
    named = ("demo/mnist", "demo/image_to_text")
    found = choose_tasks(named, sources, prepared, own, prepared).sources
    assert found["corpora"].name == "corpora-icons"
    # The emoji, prepared for this task alone.
    assert found["demo-pair"].name == "prepare-demo-pair"
    assert {*found["demo-pair"].inputs} == {"corpora"}


def test_bundles_by_their_stage_and_in_words():
    assert bundle_at("corpora-icons") is BUNDLES["icons"]
    assert bundle_at("corpora") is BUNDLES["demo"]
    assert bundle_at("corpora", "icons") is BUNDLES["icons"]
    assert bundle_at("own-pair") is None
    told = place_in_words("input:corpora-icons/text/wordnet.txt")
    assert told == "the icons' corpora, wordnet.txt"


def test_budgets_and_sizes_are_chosen_by_name():
    config = parse(["--preset", "icons", "--budget", "evening", "--size=small", "--plan"])
    assert config.model.width == 384
    assert config.run.plan
    evening = parse(["--preset", "icons", "--budget", "evening"])
    hour = parse(["--preset", "icons"])
    for name, stage in hour.training.items():
        assert stage.train.steps < evening.training[name].train.steps
    assert config.training["stage3-pair"].train.steps < hour.training["stage3-pair"].train.steps
    gpu = parse(["--preset", "icons", "--budget", "gpu"])
    assert gpu.training["stage1-image"].train.scaling.resident
    assert gpu.training["stage1-image"].train.precision == "bf16"
    own = parse(["--preset", "icons", "--stage3-pair.train.steps", "7"])
    assert own.training["stage3-pair"].train.steps == 7


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--preset", "demo", "--budget", "hour"], "preset demo has none; --preset icons has"),
        (["--preset", "icons", "--budget", "week"], "'week': give one of hour, evening, gpu"),
        (["--preset", "icons", "--size", "huge"], "'huge': give one of tiny, mini, small"),
        (["--preset", "icons", "--budget"], "--budget: give one of hour"),
    ],
)
def test_other_budgets_are_refused(given, told):
    with pytest.raises(UserError, match=told):
        parse(given)
