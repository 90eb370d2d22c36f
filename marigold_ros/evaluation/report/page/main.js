// Adds the interaction; tables, bars and images are there without it.
'use strict';

(() => {
  const data = JSON.parse(document.getElementById('report-data').textContent);
  const choose = frameChooser(document.getElementById('frames') || document.body);
  const shared = new Cursor();
  for (const figure of document.querySelectorAll('[data-chart]')) {
    const spec = data.charts[figure.dataset.chart];
    const show = spec.linked && choose ? (place) => choose(spec.x ? spec.x[place] : place) : null;
    const chart = new LineChart(figure, spec, spec.linked ? shared : new Cursor(), show);
    saveButton(chart.plot, 'SVG', spec.title, () => chartAsSvg(chart));
  }
  const panel = document.querySelector('.cloud');
  if (panel && data.cloud) new Cloud(panel, data.cloud);
  saveTables();
})();
