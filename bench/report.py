"""The figures of a benchmark as a table on the terminal and as a picture."""

# For these more is better; for all others less is.
MORE_IS_BETTER = {"MB/s"}


def rows(medians):
    """(what, unit, {server: value}) for every figure; some are of one server alone."""
    first = next(iter(medians.values()))
    return [(what, unit, {name: m[what][unit] for name, m in medians.items() if unit in m[what]}) for what in first for unit in first[what]]


def show(medians):
    names = list(medians)
    print(f"\n{'':52}" + "".join(f"{name:>12}" for name in names) + ("       ratio" if len(names) == 2 else ""))
    for what, unit, values in rows(medians):
        line = f"{what + ', ' + unit:52}" + "".join(f"{value:12.2f}" for value in values.values())
        if len(values) == 2:
            ratio = values[names[0]] / values[names[1]] if values[names[1]] else float("inf")
            better = (ratio > 1) == (unit in MORE_IS_BETTER)
            line += f"{ratio:12.2f}{'  better' if better else ''}"
        print(line)


def write_plot(medians, path):
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figures = rows(medians)
    columns = 4
    height = -(-len(figures) // columns)
    picture, axes = pyplot.subplots(height, columns, figsize=(3 * columns, 2.2 * height))
    for axis in axes.flat[len(figures) :]:
        axis.axis("off")
    for axis, (what, unit, values) in zip(axes.flat, figures):
        bars = axis.bar(list(values), list(values.values()), color=["#2b6cb0", "#a0aec0"][: len(values)], width=0.6)
        axis.bar_label(bars, fmt="%.3g", fontsize=8)
        axis.set_title(f"{what}\n{unit}, {'more' if unit in MORE_IS_BETTER else 'less'} is better", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.margins(y=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    picture.tight_layout()
    picture.savefig(path, metadata={"Date": None})
