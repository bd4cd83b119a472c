"""What a label column is read as: by what is written in it, alike in every format, and told where it could be wrong."""

from __future__ import annotations

import json
import logging

import numpy as np
import pandas as pd
import pytest

from elbert.data import Labels, load_data
from elbert.errors import DataError, DataWarning

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
QUIET = pytest.mark.filterwarnings("error::elbert.errors.DataWarning")


def csv_file(write, labels, column="label"):
    rows = "\n".join(f'text {row},"{str(label).replace(chr(34), chr(34) * 2)}"' for row, label in enumerate(labels))
    return write("a.csv", f"text,{column}\n{rows}\n")


def read(write, cells, column="label", **options):
    return load_data(csv_file(write, cells, column), **options)


@QUIET
@pytest.mark.parametrize("labels", [["0", "1"], ["sports", "business"], ["3", "1", "2"], ["New York", "Rome, Italy"]])
@pytest.mark.parametrize("column", ["label", "labels", "Labels"])
def test_one_label_a_row_is_single_label_whatever_the_column_is_called(write, labels, column):
    data = read(write, labels * 20, column)
    assert data.label_space == Labels(SINGLE, tuple(sorted(labels)))


@QUIET
def test_semicolons_in_a_column_labels_are_between_labels_and_an_empty_cell_is_no_label(write):
    assert read(write, ["joy;love", "", "joy"], "labels").labels == [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]


@pytest.mark.filterwarnings("ignore::elbert.errors.DataWarning")
@pytest.mark.parametrize(("cells", "names"), [(["joy;", "joy"], ("joy",)), ([";joy", " joy ; love;"], ("joy", "love"))])
@pytest.mark.parametrize("column", ["label", "labels"])
def test_a_semicolon_at_the_end_stands_between_labels_too(write, cells, names, column):
    assert read(write, cells, column).label_space == Labels(MULTI, names)


@pytest.mark.parametrize("missing", [None, "", float("nan"), pd.NA])
def test_nothing_is_the_empty_set_among_label_sets_as_text_in_every_format(missing):
    rows = [{"text": "a", "labels": "joy;love"}, {"text": "b", "labels": missing}]
    assert load_data(rows).labels == load_data(pd.DataFrame(rows)).labels == [[1.0, 1.0], [0.0, 0.0]]


def test_an_empty_cell_among_single_labels_is_missing_and_the_flag_that_makes_it_a_set_is_named(write):
    with pytest.raises(DataError, match=r"row 2 \(line 3\): the label is missing.*--problem-type multi_label_class"):
        read(write, ["joy", "", "love"], "labels")
    data = read(write, ["joy", "", "love"], "labels", problem_type=MULTI)
    assert data.labels == [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]


def test_semicolons_in_another_column_are_told(write):
    with pytest.warns(DataWarning, match=r"multi-label classification.*';' stands between labels; .*--problem-type"):
        assert read(write, ["joy;love", "joy"]).label_space == Labels(MULTI, ("joy", "love"))
    assert read(write, ["joy;love", "joy"], problem_type=SINGLE).label_space.names == ("joy", "joy;love")


@QUIET
@pytest.mark.parametrize(
    "labels",
    [
        ["1E50", "1E51"],
        ["5E0", "5E1", "5F0"],
        ["12E5", "12D5"],
        ["1e400", "1e5"],
        ["250", "E11", "12E5"],
        ["007", "7E2", "7"],
        ["1.2.3", "1.2.10"],
        ["0x10", "10"],
        ["-1", "+1", "1E+2x"],
        ["1_000", "1_001"],
        ["2.0", "1.0"],
        ["TRUE", "FALSE"],
    ],
)
def test_a_class_is_called_what_stands_in_the_file(write, labels):
    for source in (csv_file(write, labels), [{"text": str(row), "label": each} for row, each in enumerate(labels)]):
        data = load_data(source)
        assert data.label_space.problem_type == SINGLE
        assert [data.label_space.decode(label) for label in data.labels] == labels


@pytest.mark.parametrize("number", ["1E50", "1.10", "2.0", "1e-7", "100", "12E5"])
def test_a_number_in_json_is_spelt_as_it_stands_there(write, number):
    lines = f'{{"text": "a", "label": {number}}}\n{{"text": "b", "label": "x1"}}\n'
    data = load_data(write("a.jsonl", lines), problem_type=SINGLE)
    assert set(data.label_space.names) == {number, "x1"}


def test_sections_are_read_as_regression_only_with_a_line_that_says_why_and_what_overrules(write):
    labels = ["1.9", "1.10", "2.0"]
    with pytest.warns(
        DataWarning, match=r"'label', read as numbers to predict \(regression\), because 1.9 has decimals"
    ):
        assert read(write, labels).label_space.problem_type == REGRESSION
    with pytest.warns(DataWarning, match="--problem-type overrule"):
        read(write, labels)
    assert read(write, labels, problem_type=SINGLE).label_space.names == ("1.10", "1.9", "2.0")


@pytest.mark.parametrize("labels", [["0.5", "1E5"], ["0.5", "1e-05"], ["1e-05", "2e-05"], [".5", "5."]])
def test_numbers_as_programs_write_them_are_regression(write, labels):
    with pytest.warns(DataWarning, match="regression"):
        assert read(write, labels).labels == [float(label) for label in labels]


def test_words_beside_numbers_are_refused_with_the_flag_that_means_it(write):
    with pytest.raises(DataError, match=r"part words \('other'\), part numbers .*--problem-type single_label_class"):
        read(write, ["2", "3", "other"])
    assert read(write, ["2", "3", "other"], problem_type=SINGLE).label_space.names == ("2", "3", "other")


def test_many_whole_numbers_are_classes_only_with_a_line(write):
    with pytest.warns(DataWarning, match="single-label classification.*because they are whole numbers.*--problem-type"):
        assert len(read(write, range(100, 281)).label_space.names) == 181
    assert read(write, range(100, 281), problem_type=REGRESSION).labels[0] == 100.0


def test_a_decimal_comma_is_told(write):
    with pytest.warns(DataWarning, match="'0,93' has no decimal point"):
        read(write, ["0,93", "0,5"])


def test_whole_numbers_in_a_column_score_are_told(write):
    with pytest.warns(
        DataWarning, match=r"'Score', read as numbers .* because the column is called so; .*--problem-type"
    ):
        assert read(write, ["1", "5", "3"], "Score").label_space.problem_type == REGRESSION


def test_what_is_hardly_in_doubt_is_a_log_line_with_columns_and_problem(write, caplog):
    with caplog.at_level(logging.INFO, "elbert"):
        read(write, ["b", "a"], "sentiment")
    assert (
        "text from 'text', label from 'sentiment', read as single-label classification, classes 'a', 'b'" in caplog.text
    )
    assert "--text-column, --label-column and --problem-type overrule" in caplog.text


@pytest.mark.parametrize(
    ("cells", "sets"),
    [
        (["['joy', 'love']", "['joy']", "[]"], [["joy", "love"], ["joy"], []]),
        (['["joy", "l\\u00f6ve"]', '["joy"]'], [["joy", "löve"], ["joy"]]),
        (["['joy' 'love']", "['joy']"], [["joy", "love"], ["joy"]]),
        (["['joy'\n 'love']", "[]"], [["joy", "love"], []]),
        (["[np.str_('joy'), np.str_('love')]", "[]"], [["joy", "love"], []]),
        (["('joy', 'love')", "('joy',)", "()"], [["joy", "love"], ["joy"], []]),
        (["{'love'}", "set()"], [["love"], []]),
        (["['it\\'s', \"no, it isn't\"]", "['a; b']"], [["it's", "no, it isn't"], ["a; b"]]),
        (["[1, 2]", "[2]", "[10]"], [["1", "2"], ["2"], ["10"]]),
    ],
)
@pytest.mark.parametrize("column", ["label", "labels"])
def test_lists_that_became_text_are_the_lists_they_were(write, cells, sets, column):
    data = read(write, cells, column)
    assert data.label_space.problem_type == MULTI
    names = data.label_space.names
    assert [{names[place] for place, on in enumerate(row) if on} for row in data.labels] == [set(each) for each in sets]


@pytest.mark.parametrize(
    "cells",
    [
        ["joy, love", "joy"],
        ["joy|love", "joy"],
        ["joy|love", "love|anger"],
        ["joy love", "joy", "love"],
        ["joy/love", "joy", "love"],
        ["joy + love", "love", "joy"],
        ["a,b", "b,c", "a,c"],
        ["joy, love", "love, joy"],
        ["[joy, love]", "[joy]"],
        ["['joy', 'love']", "joy"],
        ["[joy]", "sad"],
    ],
)
@pytest.mark.parametrize("column", ["label", "labels"])
def test_labels_joined_otherwise_are_refused_with_the_remedy_and_a_way_to_mean_it(write, cells, column):
    with pytest.raises(
        DataError, match=r"row \d \(line \d\): label .*write ';' between labels, or lists in JSON lines; .*--problem"
    ):
        read(write, cells, column)
    assert set(read(write, cells, column, problem_type=SINGLE).label_space.names) == set(cells)


@pytest.mark.parametrize("cells", [["joy love", "joy"], ["joy|love", "anger|hate"], ["joy, love", "joy"]])
def test_less_is_enough_where_the_column_promises_labels(write, cells):
    with pytest.raises(DataError, match="several labels in one cell"):
        read(write, cells, "labels")


@QUIET
@pytest.mark.parametrize(
    "names",
    [
        ["very positive", "positive", "neutral", "negative", "very negative"],
        ["Sci/Tech", "World", "Sports"],
        ["Paris, France", "Lyon, France", "Rome"],
        ["R&D", "sales"],
        ["C++", "C"],
        ["(other)", "(none)"],
    ],
)
def test_names_with_such_marks_in_them_stay_whole(write, names):
    assert set(read(write, names).label_space.names) == set(names)


@pytest.mark.parametrize(
    "cells",
    [["0 1 0", "1 0 0", "0 0 1"], ["0,1", "1,0"], ["0|1|1", "0|0|1"], ["[0. 1.]", "[1. 0.]"], ["0;1;0", "1;0;1"]],
)
@pytest.mark.parametrize("column", ["label", "labels"])
@pytest.mark.filterwarnings("ignore::elbert.errors.DataWarning")
def test_zeros_and_ones_written_in_a_cell_are_no_class_either(write, cells, column):
    with pytest.raises(DataError, match="several labels in one cell|list the labels present, not zeros and ones"):
        read(write, cells, column)
    assert set(read(write, cells, column, problem_type=SINGLE).label_space.names) == set(cells)


@pytest.mark.parametrize("vectors", [[[1, 0], [0, 1]], [[0.0, 1.0], [1.0, 1.0]], [[1, 0, 0], [0, 0, 1]]])
def test_zeros_and_ones_are_no_label_names(vectors):
    with pytest.raises(DataError, match="list the labels present, not zeros and ones"):
        load_data([{"text": f"t{row}", "label": vector} for row, vector in enumerate(vectors)])
    space = Labels(MULTI, ("x", "y", "z")[: len(vectors[0])])
    with pytest.raises(DataError, match="list the labels present, not zeros and ones"):
        load_data([{"text": f"t{row}", "label": vector} for row, vector in enumerate(vectors)], labels=space)


def test_one_number_in_two_spellings_is_one_class():
    rows = [{"text": str(row), "label": label} for row, label in enumerate([1, 1.0, "0", 0.0])]
    data = load_data(rows)
    assert data.label_space.names == ("0", "1")
    assert data.labels == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("names", "values", "ids"),
    [
        (("0", "1"), [1.0, "0.0"], [1, 0]),
        (("0.0", "1.0"), [1, "0"], [1, 0]),
        (("False", "True"), ["true", "FALSE"], [1, 0]),
    ],
)
def test_a_models_classes_are_known_in_another_spelling(names, values, ids):
    rows = [{"text": str(row), "label": value} for row, value in enumerate(values)]
    assert load_data(rows, labels=Labels(SINGLE, names)).labels == ids


def test_a_single_label_model_says_what_to_set_where_the_data_holds_sets(write):
    space = Labels(SINGLE, ("joy", "love"))
    with pytest.raises(
        DataError, match=r"single-label by its config; if .* pass --problem-type multi_label_classification"
    ):
        load_data([{"text": "a", "label": ["joy"]}], labels=space)
    with pytest.raises(
        DataError, match=r"single-label by its config; if .* pass --problem-type multi_label_classification"
    ):
        read(write, ["joy;love", "joy"], labels=space)
    with pytest.raises(DataError, match=r"it is a set of known ones, but the model is single-label by its config"):
        read(write, ["['joy', 'love']", "['joy']"], labels=space)


@pytest.mark.parametrize(
    "labels",
    [["1E50", "12E5"], ["b", "a"], ["1", "0"], ["0.5", "2.0"], ["2.0", "1.0"], ["joy;love", "joy"], ["01", "1"]],
)
@pytest.mark.filterwarnings("ignore::elbert.errors.DataWarning")
def test_strings_mean_the_same_in_every_format(write, tmp_path, labels):
    rows = [{"text": f"t{row}", "label": label} for row, label in enumerate(labels)]
    frame = pd.DataFrame(rows)
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "a.parquet")
    sources = [rows, frame, {"text": frame["text"], "label": labels}]
    sources += [tmp_path / f"a.{kind}" for kind in ("csv", "tsv", "jsonl", "parquet")]
    read = [load_data(source) for source in sources]
    assert all((each.label_space, each.labels) == (read[0].label_space, read[0].labels) for each in read)


@pytest.mark.parametrize("labels", [[1, 0], [0.5, 2.0], [1.0, 2.0], [True, False], [["a", "b"], []], [1e-7, 3.0]])
@pytest.mark.filterwarnings("ignore::elbert.errors.DataWarning")
def test_typed_labels_mean_the_same_in_every_format(tmp_path, labels):
    frame = pd.DataFrame({"text": ["a", "b"], "label": labels})
    frame.to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in frame.to_dict("records")))
    frame.to_parquet(tmp_path / "a.parquet")
    arrays = {"text": np.array(["a", "b"]), "label": labels if isinstance(labels[0], list) else np.array(labels)}
    sources = [frame, arrays, *(tmp_path / f"a.{kind}" for kind in ("csv", "jsonl", "parquet"))]
    read = [load_data(source) for source in sources]
    assert all((each.label_space, each.labels) == (read[0].label_space, read[0].labels) for each in read)


def test_a_label_space_takes_numpys_own_numbers_as_plain_ones():
    space = Labels(MULTI, ("x", "y"))
    assert Labels(SINGLE, ("0", "1")).encode(np.int64(1), "here") == 1
    assert space.encode(np.array(["y"]), "here") == [0.0, 1.0]
    assert Labels(REGRESSION, ()).encode(np.float32(0.5), "here") == 0.5


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["yes", "Yes", "no"], "classes 'Yes', 'yes' hardly differ"),
        (["caf\u00e9", "cafe\u0301"], "hardly differ"),
        (["pos", "neg\u200b", "neg"], "hardly differ"),
        (["New  York", "New York", "Rome"], "hardly differ"),
        (["NA", "pos", "neg"], "'NA' is read as a class; where it means no label, drop its rows"),
        (["None", "pos", "neg"], "'None' is read as a class"),
        (["-", "entailment", "neutral"], "'-' is read as a class"),
        (['"pos"', '"neg"'], "'\"neg\"', '\"pos\"' stand in quotes, which are part of their names"),
        ([f"row{row}" for row in range(40)], "40 classes in 40 rows, .*--label-column"),
    ],
)
def test_classes_that_may_be_one_or_none_are_told(write, cells, told):
    with pytest.warns(DataWarning, match=told):
        data = read(write, cells)
    assert data.label_space.num_labels == len(cells)


@QUIET
@pytest.mark.parametrize("cells", [["+", "-"], ["A", "A-", "A+"], ["-1", "1", "0"], ["none", "for", "against"]])
def test_classes_that_differ_are_not_doubted(write, cells):
    assert read(write, cells).label_space.num_labels == len(cells)


@pytest.mark.parametrize("values", [[[0.2, 0.8], [0.9, 0.1]], [[0.5], [2.0]], [["0.25", "0.75"], [1, 0]], [[], [3.5]]])
def test_lists_of_amounts_are_no_label_sets(write, values):
    rows = [{"text": f"t{row}", "label": value} for row, value in enumerate(values)]
    with pytest.raises(DataError, match="is a list of numbers with decimals, not of labels; give the labels"):
        load_data(rows)
    with pytest.raises(DataError, match="is a list of numbers with decimals"):
        read(write, [json.dumps(value) for value in values])
    assert load_data(rows, problem_type=MULTI).label_space.problem_type == MULTI


def test_a_label_in_another_case_is_no_class_of_the_model_and_the_class_is_named(write):
    with pytest.raises(DataError, match="label 'POS' was never seen in training; did you mean 'pos'"):
        read(write, ["POS", "NEG"], labels=Labels(SINGLE, ("neg", "pos")))
