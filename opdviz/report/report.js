// Figures are drawn one after the other, so that the page can be read meanwhile.
const plots = [...document.querySelectorAll(".plot")];
const options = { responsive: true, displaylogo: false, displayModeBar: false };

function draw(at) {
  if (at === plots.length) {
    document.body.dataset.drawn = at;
    return;
  }
  const figure = JSON.parse(document.getElementById(`${plots[at].id}-data`).textContent);
  Plotly.newPlot(plots[at], figure.data, figure.layout, options).then(() => setTimeout(draw, 0, at + 1));
}

draw(0);
addEventListener("beforeprint", () => plots.forEach((plot) => Plotly.Plots.resize(plot)));
