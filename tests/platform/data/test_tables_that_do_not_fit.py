"""Tables with quotes that do not fit, damaged ones among good ones, and kinds of their columns."""

import pytest
from test_inputs_people_have import laid_out, rows

from momo_platform.stages import UserError


@pytest.mark.parametrize(
    "text",
    [
        'caption,image\na cat,1.png\n"a dog,2.png\na bird,3.png\na fish",4.png\n',
        'caption,image\na cat,1.png\n"a dog,2.png\na fish",4.png\n',
        'id,image,caption\n1,1.png,a cat\n2,2.png,"text\n3,3.png,a dog\n4,4.png,words"\n',
        'id,image,caption\n1,1.png,a cat\n2,"2.png\n3,3.png",words\n',
    ],
)
def test_rows_within_a_quote_are_found_wherever_the_picture_stands(tmp_path, text):
    with pytest.raises(UserError, match="line 3: a quote is opened in it and closed only after"):
        rows(laid_out(tmp_path, {"rows.csv": text}))


def test_a_quoted_list_that_reads_like_rows_costs_one_row(tmp_path):
    text = 'image,caption\n1.png,"see\nfoo.png, a file"\n2.png,a dog\n3.png,"a, b\nc, d"\n'
    first, *others = rows(laid_out(tmp_path, {"rows.csv": text}))
    assert first["reason"].startswith("line 2: a quote is opened in it and closed only after")
    assert [row["captions"] for row in others] == [["a dog"], ["a, b\nc, d"]]
