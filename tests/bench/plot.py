"""plot.py -- draws curves with gnuplot, as SVG."""
import subprocess

import peers


def draw(report, name, title, axes, curves, logscale=""):
    """Writes NAME.svg into the report's folder.  `axes` are the texts of x and y, `curves` pairs of a name and its
    points; `logscale` is "", "x", "y" or "xy"."""
    try:
        gnuplot = peers.need("gnuplot", "deploy/install-deps.sh bench installs it")
    except peers.Missing as reason:
        report.note(f"{name}.svg is not drawn: {reason}")
        return
    lines = ["set terminal svg size 800,500 background rgb 'white'", f"set output '{report.folder}/{name}.svg'",
             f"set title \"{title}\"", f"set xlabel \"{axes[0]}\"", f"set ylabel \"{axes[1]}\"", "set grid",
             "set key top left"]
    if logscale:
        lines.append(f"set logscale {logscale}")
    curves = [(label, points) for label, points in curves if points]
    lines.append("plot " + ", ".join(f"'-' with linespoints title \"{label}\"" for label, _ in curves))
    for _, points in curves:
        lines += [" ".join(f"{value:g}" for value in point) for point in points] + ["e"]
    done = subprocess.run([gnuplot], input="\n".join(lines) + "\n", text=True, capture_output=True, check=False,
                          timeout=peers.PATIENCE_S)
    if done.returncode != 0:
        report.fail(f"gnuplot on {name}: {done.stderr.strip()}")
        return
    report.picture(title, f"{name}.svg")
