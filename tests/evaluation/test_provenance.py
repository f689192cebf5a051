import msgspec

from core.settings import RankingSettings, Settings, TextSettings
from evaluation.provenance import Changed, changed_settings, machine, versions


def test_default_settings_have_no_differences() -> None:
    assert changed_settings(Settings()) == ()


def test_only_what_differs_is_told_with_its_default() -> None:
    settings = msgspec.structs.replace(
        Settings(), ranking=RankingSettings(candidates=400), text=TextSettings(template="{title}")
    )
    assert Changed("ranking.candidates", "300", "400") in changed_settings(settings)
    assert {one.name for one in changed_settings(settings)} == {"ranking.candidates", "text.template"}


def test_machine_and_versions_name_what_a_figure_depends_on() -> None:
    assert "Python 3." in machine()
    assert "cores" in machine()
    assert versions()["numpy"].startswith("2.")
