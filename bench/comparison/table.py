"""From the records of results.jsonl to the table that compare.sh prints."""

import statistics

# metric -> its column, and whether more is better
METRICS = {"examples_per_second": ("examples/s", True), "texts_per_second": ("texts/s", True),
           "latency_ms": ("one text, ms", False)}

# How far an output may be from the reference's before the row is marked wrong. fp32 logits differ by the order of sums
# alone. bf16 keeps 8 bits of every operand, int8 7 bits; what they cost is shown, and the bound is for nonsense.
# Training: the same rows in another order with other dropout; seeds of one engine differ by 0.05% after 40 steps.
LOGIT_BOUND = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.05, "int8": 0.5}
LOSS_BOUND = 0.005


def key(record):
    return record["task"], record["engine"], record["precision"]


def rounds(records, row, metric):
    return [r["values"][metric] for r in records if r["event"] == "round" and key(r) == row and metric in r["values"]]


def variation(values):
    return statistics.stdev(values) / statistics.mean(values) if len(values) > 1 else None


def rows_of(records, task):
    """Those of which there is something to tell, in the order of the engines, which is that of their first records."""
    of_task = [record for record in records if "engine" in record and record.get("task") == task]
    telling = {key(record) for record in of_task if record["event"] in ("round", "check", "skipped", "failed")}
    return [row for row in dict.fromkeys(map(key, of_task)) if row in telling]


def baseline(records, row, metric):
    """Ember's median at the row's precision, or, where Ember has none there, in fp32, which is marked."""
    for precision, mark in ((row[2], ""), ("fp32", " (fp32)")):
        values = rounds(records, (row[0], "Ember", precision), metric)
        if values:
            return statistics.median(values), mark
    return None, ""


def factor(records, row, metric):
    """How many times as fast Ember is, or None, and the mark of what it was held against."""
    values = rounds(records, row, metric)
    ours, mark = baseline(records, row, metric)
    if not values or ours is None:
        return None, ""
    median = statistics.median(values)
    return (ours / median if METRICS[metric][1] else median / ours), mark


def speed_cells(records, row, metric):
    """Median, coefficient of variation, and how many times as fast Ember is."""
    values = rounds(records, row, metric)
    if not values:
        return ["-", "-", "-"]
    median, spread = statistics.median(values), variation(values)
    times, mark = factor(records, row, metric)
    return [f"{median:,.0f}" if median >= 100 else f"{median:.3g}", "-" if spread is None else f"{100 * spread:.1f}%",
            "-" if times is None else f"{times:.2f}{mark}"]


def accuracy(records, row):
    """What stands beside the speed, and whether it is wrong."""
    checks = [r for r in records if r["event"] == "check" and key(r) == row]
    if not checks:
        return "not checked", False
    check = checks[-1]
    if check.get("ids_equal") is not None:
        return ("the same ids", False) if check["ids_equal"] else ("other ids", True)
    if check.get("loss") is not None:
        reference = check.get("reference")
        return f"{check['loss']:.5f}", reference is not None and not abs(check["loss"] / reference - 1) <= LOSS_BOUND
    if check.get("difference") is not None:
        bound = LOGIT_BOUND[row[2]]
        return f"{check['difference']:.1e}", not check["difference"] <= bound
    return "no reference", False


ACCURACY = {"training": "dev loss", "training on CUDA": "dev loss", "inference": "largest difference of a logit",
            "tokenisation": "outputs"}


def end(records, row):
    """"skipped" or "failed" and the reason, of an engine that did not last; otherwise twice nothing."""
    ends = [r for r in records if r["event"] in ("skipped", "failed") and key(r) == row]
    return (ends[-1]["event"], ends[-1]["reason"]) if ends else ("", "")


def outcome(records, row):
    """How an engine ended that did not last, as it stands in the table."""
    event, reason = end(records, row)
    return f"failed: {reason}" if event == "failed" else reason


def failures(records, engine):
    """What went wrong with an engine's rows, a line each; an engine that was skipped did not fail."""
    lines = []
    for row in dict.fromkeys(key(record) for record in records if record.get("engine") == engine):
        if end(records, row)[0] == "failed":
            lines.append(f"{row[0]}: {engine} {row[2]}: {outcome(records, row)}")
        elif accuracy(records, row)[1]:
            lines.append(f"{row[0]}: {engine} {row[2]}: wrong: {accuracy(records, row)[0]}")
    return lines


def cells(records, task):
    """Lines of cells, the head first."""
    rows = rows_of(records, task)
    metrics = [metric for metric in METRICS if any(rounds(records, row, metric) for row in rows)]
    head = [task, "precision"]
    for metric in metrics:
        head += [METRICS[metric][0], "cv", "Ember is x times as fast"]
    lines = [[*head, ACCURACY[task], ""]]
    for row in rows:
        text, wrong = accuracy(records, row)
        cells = [cell for metric in metrics for cell in speed_cells(records, row, metric)]
        lines.append([row[1], row[2], *cells, text + (" (wrong)" if wrong else ""), outcome(records, row)])
    return lines


def table(records, task):
    """The same as Markdown."""
    lines = cells(records, task)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines)
