// Charts saved as SVG and tables as CSV.
'use strict';

// What style sheets say of a drawing; a saved one has none.
const DRAWN = ['fill', 'stroke', 'stroke-width', 'stroke-dasharray', 'font-size'];

function saveButton(place, kind, name, content) {
  const button = element('button', { type: 'button', class: 'save', 'aria-label': `Save «${name}» as ${kind}` }, kind);
  button.addEventListener('click', () => {
    const url = URL.createObjectURL(new Blob([content()], { type: kind === 'SVG' ? 'image/svg+xml' : 'text/csv' }));
    const stem = name.toLowerCase().replace(/[^a-z0-9]+/g, '_').replace(/^_|_$/g, '');
    element('a', { href: url, download: `${stem}.${kind.toLowerCase()}` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  });
  place.before(button);
}

// The chart below its title and its legend, with the colours that it has on the page.
function chartAsSvg(chart) {
  const saved = shape('svg', { xmlns: SVG, width: chart.width, 'font-family': 'sans-serif' });
  saved.append(shape('rect', { width: '100%', height: '100%', fill: getComputedStyle(chart.figure).backgroundColor }));
  const body = shape('g', {}), ink = getComputedStyle(chart.figure).color;
  saved.append(shape('text', { x: 8, y: 16, fill: ink, 'font-size': 14, 'font-weight': 600 }, chart.spec.title), body);
  const copy = (node, to) => {
    const twin = node.cloneNode(false), style = getComputedStyle(node);
    for (const name of DRAWN) twin.setAttribute(name, style.getPropertyValue(name));
    twin.removeAttribute('class');
    to.append(twin);
    for (const child of node.childNodes) child.nodeType === Node.TEXT_NODE ? twin.append(child.textContent) : copy(child, twin);
  };
  for (const node of chart.plot.children) if (node !== chart.overlay) copy(node, body);
  let x = 8, y = 27;
  for (const item of chart.figure.querySelectorAll('.legend > span')) {
    const width = 36 + 7 * item.textContent.length;
    if (x > 8 && x + width > chart.width) [x, y] = [8, y + 18];
    const line = shape('g', { transform: `translate(${x} ${y})` });
    copy(item.querySelector('path'), line);
    saved.append(line, shape('text', { x: x + 36, y: y + 9, fill: ink, 'font-size': 12 }, item.textContent));
    x += width + 20;
  }
  body.setAttribute('transform', `translate(0 ${y + 17})`);
  saved.setAttribute('height', chart.height + y + 17);
  return new XMLSerializer().serializeToString(saved);
}

function tableAsCsv(table) {
  const cell = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return [...table.rows].map((row) => [...row.cells].map((one) => cell(one.innerText.trim().replace(/\s+/g, ' '))).join(',') + '\r\n').join('');
}

function saveTables() {
  for (const table of document.querySelectorAll('main table:not(.facts)')) {
    const near = table.closest('.panel, details, section') || document.body;
    const titles = [...near.querySelectorAll('h2, h3, summary')].filter((title) => title.compareDocumentPosition(table) & Node.DOCUMENT_POSITION_FOLLOWING);
    const title = titles.pop() || table.closest('section').querySelector('h2');
    saveButton(table.closest('.wide') || table, 'CSV', title.textContent, () => tableAsCsv(table));
  }
}
