"""Everything else rows can come from: lists, DataFrames, Datasets, folders, the hub; and sources that are none."""

from __future__ import annotations

import sys

import datasets
import numpy as np
import pandas as pd
import pytest

from elbert.data import load_data
from elbert.errors import DataError, MissingExtraError, UsageError


def test_a_list_holds_texts_pairs_or_dicts():
    assert load_data(["a", ""], require_labels=False).texts == ["a", ""]
    assert load_data([("a", "b"), ["c", "d"]], require_labels=False).texts == [("a", "b"), ("c", "d")]
    assert load_data([{"text": "a", "label": 1}]).label_space.names == ("1",)


@pytest.mark.parametrize(
    "items", [["a", ("b", "c")], [("a", "b"), "c"], [("a", "b"), ("c",)], [{"text": "a"}, "b"], ["a", {"text": "b"}]]
)
def test_a_list_of_mixed_items_is_refused(items):
    with pytest.raises(DataError, match=r"list: row 2: .* is not like the first item"):
        load_data(items, require_labels=False)


def test_a_list_item_that_is_no_text_is_refused():
    with pytest.raises(DataError, match="list: row 2, column 'text': the text is missing"):
        load_data(["a", None], require_labels=False)
    with pytest.raises(DataError, match="list: row 1, column 'text': 5 is of type int"):
        load_data([5], require_labels=False)


def test_an_empty_list_is_refused():
    with pytest.raises(DataError, match="list: no rows"):
        load_data([], require_labels=False)


def test_a_dataframe_is_read_in_order_whatever_its_index():
    frame = pd.DataFrame({"text": ["a", "b"], "label": [1, 0]}, index=[9, 3])
    data = load_data(frame)
    assert data.texts == ["a", "b"]
    assert data.labels == [1, 0]
    assert data.name == "DataFrame"


def test_a_dataframe_of_categories_booleans_and_arrays_is_read():
    assert load_data(pd.DataFrame({"text": ["a", "b"], "label": pd.Categorical(["y", "x"])})).labels == [1, 0]
    assert load_data(pd.DataFrame({"text": ["a", "b"], "label": [True, False]})).label_space.names == ("False", "True")
    arrays = pd.DataFrame({"text": ["a", "b"], "label": [np.array(["x"]), np.array(["x", "y"])]})
    assert load_data(arrays).labels == [[1.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_missing_cells_of_a_dataframe_name_the_row(missing):
    with pytest.raises(DataError, match="DataFrame: row 2, column 'text': the text is missing"):
        load_data(pd.DataFrame({"text": ["a", missing], "label": [0, 1]}))
    with pytest.raises(DataError, match="DataFrame: row 2: the label is missing"):
        load_data(pd.DataFrame({"text": ["a", "b"], "label": [0, missing]}))


def test_a_dataframe_with_a_column_twice_is_refused():
    with pytest.raises(DataError, match="DataFrame: column 'text' occurs twice"):
        load_data(pd.DataFrame([["a", "b", 0]], columns=["text", "text", "label"]))


def class_labelled(ids, names=("neg", "pos")):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=list(names))})
    return datasets.Dataset.from_dict({"text": [f"t{row}" for row in range(len(ids))], "label": ids}, features)


def test_a_datasets_class_names_are_kept_in_their_order():
    data = load_data(class_labelled([1, 0, 1], names=("zebra", "ant")))
    assert data.label_space.names == ("zebra", "ant")
    assert data.labels == [1, 0, 1]


def test_a_datasets_class_that_does_not_occur_keeps_its_place():
    assert load_data(class_labelled([2], names=("1", "2", "3"))).labels == [2]


def test_a_datasets_missing_class_names_the_row():
    with pytest.raises(DataError, match="Dataset: row 2: the label is missing"):
        load_data(class_labelled([0, -1]))


def test_a_datasets_list_of_class_ids_is_multi_label():
    features = datasets.Features(
        {"text": datasets.Value("string"), "labels": datasets.List(datasets.ClassLabel(names=["b", "a"]))}
    )
    data = load_data(datasets.Dataset.from_dict({"text": ["x", "y"], "labels": [[0, 1], []]}, features))
    assert data.label_space.names == ("b", "a")
    assert data.labels == [[1.0, 1.0], [0.0, 0.0]]


def test_a_dataset_dict_gives_the_split_asked_for():
    parts = datasets.DatasetDict({"train": class_labelled([0]), "validation": class_labelled([1, 1])})
    assert len(load_data(parts)) == 1
    assert len(load_data(parts, split="dev")) == 2
    with pytest.raises(UsageError, match="no 'test' split in DatasetDict, only 'train', 'validation'"):
        load_data(parts, split="test")


ROW = "text,label\na,x\n"


@pytest.mark.parametrize(
    ("files", "split", "found"),
    [
        (["train.csv", "dev.csv", "test.csv"], "train", "train.csv"),
        (["train.csv", "dev.csv", "test.csv"], "dev", "dev.csv"),
        (["train.csv", "validation.csv", "test.csv"], "dev", "validation.csv"),
        (["train.csv", "test.csv"], "dev", "test.csv"),
        (["train.csv", "dev.csv", "test.csv"], "test", "test.csv"),
        (["train.csv", "dev.csv"], "validation", "dev.csv"),
        (["train.csv", "odd_one.csv", "LICENSE", "notes.md"], "odd_one", "odd_one.csv"),
        (["train.csv", "labels.txt"], "train", "train.csv"),
    ],
)
def test_a_folders_file_is_picked_by_split(write, tmp_path, files, split, found):
    for name in files:
        write(name, ROW)
    assert load_data(tmp_path, split=split).name == str(tmp_path / found)


def test_a_folder_without_that_split_lists_what_it_has(write, tmp_path):
    write("train.csv", ROW)
    with pytest.raises(UsageError, match=r"no 'dev' split in folder .*, only 'train'; name the file itself"):
        load_data(tmp_path, split="dev")


def test_a_folder_with_two_files_for_one_split_is_refused(write, tmp_path):
    write("train.csv", ROW)
    write("train.tsv", ROW)
    with pytest.raises(UsageError, match=r"has 'train\.csv', 'train\.tsv' for one split"):
        load_data(tmp_path)


def test_a_folder_without_data_is_refused(write, tmp_path):
    write("README.md", "nothing")
    with pytest.raises(UsageError, match=r"no data in folder .* it needs files such as train\.tsv and dev\.tsv"):
        load_data(tmp_path)


def test_an_unknown_file_names_its_neighbour(write, tmp_path):
    write("reviews.csv", ROW)
    with pytest.raises(UsageError, match=r"no file or folder .*revews\.csv'; did you mean .*reviews\.csv'\? Allowed"):
        load_data(tmp_path / "revews.csv")


def test_a_link_to_nothing_says_where_it_leads(tmp_path):
    (tmp_path / "reviews.csv").symlink_to("gone.csv")
    with pytest.raises(UsageError, match=r"it is a link to .gone\.csv., where nothing lies: .*; allowed"):
        load_data(tmp_path / "reviews.csv")


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.gz", "a.pkl"])
def test_an_unknown_extension_is_refused(write, name):
    with pytest.raises(UsageError, match=r"unknown extension .*llowed: \.csv, \.tsv, \.jsonl"):
        load_data(write(name, ROW))


@pytest.mark.parametrize("source", ["so good " * 1000, "a\0b"])
def test_a_text_given_as_a_source_is_refused_in_one_line(source):
    with pytest.raises(UsageError, match=r"(cannot look for|no file or folder) .*; allowed: a \.csv") as caught:
        load_data(source)
    assert len(str(caught.value)) < 400


def test_an_upper_case_extension_is_known(write):
    assert len(load_data(write("A.CSV", ROW))) == 1


def test_a_source_of_another_kind_is_refused():
    with pytest.raises(UsageError, match="cannot read data from type int"):
        load_data(5)


@pytest.fixture
def offline(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    return cache


def test_the_hub_reader_goes_through_datasets(write, tmp_path, offline):
    write("set/train.csv", "text,label\na,x\nb,y\n")
    write("set/test.csv", "text,label\nc,x\n")
    assert load_data(f"hub:{tmp_path / 'set'}").texts == ["a", "b"]
    assert load_data(f"hub:{tmp_path / 'set'}", split="dev").texts == ["c"]
    data = load_data(f"hub:{tmp_path / 'set'}::test")
    assert data.texts == ["c"]
    assert data.name == f"hub:{tmp_path / 'set'}::test:test"


def test_offline_the_hub_reader_says_so_and_names_the_cache(offline):
    with pytest.raises(UsageError) as caught:
        load_data("hub:nobody/nothing:plain")
    assert "cannot load data set 'nobody/nothing' with config 'plain'" in str(caught.value)
    assert str(offline) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["hub:", "hub:a:b:c:d"])
def test_a_malformed_hub_id_is_refused(source):
    with pytest.raises(UsageError, match="allowed: hub:NAME, hub:NAME:CONFIG or hub:NAME:CONFIG:SPLIT"):
        load_data(source)


def test_the_hub_without_datasets_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"datasets .* pip install 'elbert\[train\]'"):
        load_data("hub:glue:sst2")
