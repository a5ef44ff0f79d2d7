"""How data.dvc keeps a source that was given as an absolute path."""

from pathlib import Path

from flows.prepare import _place


def test_a_source_in_the_project_is_kept_relative_to_it_and_another_as_given(tmp_path: Path) -> None:
    (tmp_path / "project/photos").mkdir(parents=True)
    assert _place(tmp_path / "project", str(tmp_path / "project/photos")) == "photos"
    assert _place(tmp_path / "project", str(tmp_path / "elsewhere")) == str(tmp_path / "elsewhere")
