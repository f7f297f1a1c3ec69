"""What a task does with a block of rows, without Ray."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from momo_platform.data.images import ImageConfig
from momo_platform.data.listing import ROW_SCHEMA
from momo_platform.data.raw_pictures import ROWS_HELD
from momo_platform.data.readers import tables
from momo_platform.data.rows import PrepareImages
from momo_platform.data.sources import SourceConfig, list_rows
from pipelines.modalities import IMAGE


def test_a_task_holds_few_embedded_pictures_at_once(tmp_path, monkeypatch):
    def picture(number):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (number, 0, 0)).save(buffer, "PNG")
        return buffer.getvalue()

    count = 2 * ROWS_HELD + 10
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"image": [picture(i) for i in range(count)]}), path)
    asked, read = [], tables.read_embedded
    monkeypatch.setattr(tables, "read_embedded", lambda *a: asked.append(len(a[2])) or read(*a))
    found = list(list_rows(SourceConfig("s", str(path)), str(path), IMAGE.kind))
    schema = ROW_SCHEMA.append(pa.field("reason", pa.string()))
    blocks = PrepareImages(ImageConfig(size_cap=8), False)(
        pa.Table.from_pylist(found, schema=schema)
    )
    prepared = pa.concat_tables(blocks).to_pylist()
    assert (max(asked), sum(asked)) == (ROWS_HELD, count)
    reds = [Image.open(io.BytesIO(row["image"])).getpixel((0, 0))[0] for row in prepared]
    assert reds == list(range(count))
