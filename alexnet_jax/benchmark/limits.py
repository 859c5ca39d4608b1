"""What limits a training step, as a sentence from its numbers."""

NAMED = 3  # parts


def limits_sentence(case: dict) -> str:
    """What the products would take at the measured peak and, if known, where most time is lost.

    `case` is a result of step_case.measure_case. The time lost in a part is its time without the
    share of the peak that it reaches.
    """
    share = case["training"]["share_of_peak"]
    bound = "Bound by products" if share >= 0.5 else "Not bound by products"
    text = f"{bound}: at the measured peak they alone would take {share:.0%} of the step."
    if "by_layer" not in case:
        return text
    parts, total = case["by_layer"]["parts"], case["by_layer"]["sum_seconds"]
    others = sum(part["seconds"] for part in parts if not part["operations"]) / total
    text += f" Of the parts measured alone, those without products take {others:.0%}."
    lost = sorted(parts, key=lambda part: part["seconds"] * (part["share"] - 1))[:NAMED]
    named = ", ".join(
        f"{part['part']} ({1e3 * part['seconds']:,.3g} ms at {part['share']:.0%} of {part['of']})"
        for part in lost
    )
    return f"{text} Against the peak most is lost in {named}."
