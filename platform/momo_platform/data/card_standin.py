import base64
import pickle
from collections import Counter


def record_of(card):
    kind, card.kind = card.kind, None
    raw = pickle.dumps(card)
    card.kind = kind
    return base64.b64encode(raw).decode()


def merge_into(card, record):
    other = pickle.loads(base64.b64decode(record))
    for name in ("by_source", "by_split"):
        mine = getattr(card, name)
        for key, tally in getattr(other, name).items():
            mine.setdefault(key, Counter()).update(tally)
    card.reasons += other.reasons
    for reason, one in other.examples.items():
        card.examples.setdefault(reason, one)
    for name, h in other.histograms.items():
        if name not in card.histograms:
            card.histograms[name] = h
            continue
        m = card.histograms[name]
        m.bars += h.bars
        m.least, m.most = min(m.least, h.least), max(m.most, h.most)
        m.count += h.count
        m.total += h.total
    for heap in other._samples._heaps.values():
        for _, number, row in heap:
            card._samples.add(row, -number)
