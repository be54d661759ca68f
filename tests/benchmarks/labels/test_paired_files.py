"""Images and label files: each with its other half, or none at all."""

import pytest
from label_files import write_image

from uniovseg_jax.benchmarks.labels.paired_files import pair_files


@pytest.fixture
def folders(tmp_path):
    for name in ("ego4d_b", "thu_a", "epic_c"):
        write_image(tmp_path / "image" / f"{name}.jpg")
        write_image(tmp_path / "label" / f"{name}.png")
    (tmp_path / "image" / "Thumbs.db").write_text("no image")
    return tmp_path / "image", tmp_path / "label"


def test_files_are_paired_by_stem_in_the_order_of_their_names(folders):
    files = pair_files(*folders, ".png")
    assert list(files.images) == list(files.labels) == ["ego4d_b", "epic_c", "thu_a"]
    assert files.images["thu_a"] == folders[0] / "thu_a.jpg"
    assert files.labels["thu_a"] == folders[1] / "thu_a.png"


def test_only_names_with_a_prefix_are_taken(folders):
    assert list(pair_files(*folders, ".png", ("ego4d_", "thu_")).images) == ["ego4d_b", "thu_a"]
    with pytest.raises(ValueError, match="image holds no file whose name begins with x_ or y_"):
        pair_files(*folders, ".png", ("x_", "y_"))


@pytest.mark.parametrize("lost", [0, 1])
def test_a_file_without_its_other_half_is_one_sentence(folders, lost):
    path = folders[lost] / f"epic_c{('.jpg', '.png')[lost]}"
    path.unlink()
    with pytest.raises(ValueError, match=f"{folders[lost].name} lacks a file for 'epic_c'; exp"):
        pair_files(*folders, ".png")
    assert len(pair_files(*folders, ".png", ("thu_",)).images) == 1


def test_a_missing_folder_is_named(folders):
    with pytest.raises(FileNotFoundError, match="There is no folder .*nowhere"):
        pair_files(folders[0], folders[1].with_name("nowhere"), ".png")
