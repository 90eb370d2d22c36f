// The images of a frame on top of each other, with a slider that wipes from one to the next.
'use strict';

class Wipe {
  constructor(frame) {
    this.images = [...frame.querySelectorAll('.layers figure')];
    this.names = this.images.map((figure) => figure.dataset.name);
    this.stage = element('div', { class: 'stage' });
    // The whole image fits a screen, whatever its shape.
    const size = (name) => Number(this.images[0].querySelector('img').getAttribute(name));
    this.stage.style.maxWidth = `${(34 * size('width')) / size('height')}rem`;
    this.divider = element('div', { class: 'divider' });
    this.tags = ['left', 'right'].map((side) => element('span', { class: `tag ${side}` }));
    this.stage.append(...this.images, this.divider, ...this.tags);
    frame.querySelector('.layers').replaceWith(this.stage, this.controls(frame.id));
    this.stage.addEventListener('pointerdown', (event) => this.drag(event));
    this.stage.addEventListener('pointermove', (event) => event.buttons && this.drag(event));
    this.set(100 * this.names.findIndex((name) => name === 'depth' || name === 'fitted')); // without one the first
  }

  controls(id) {
    const controls = element('div', { class: 'wipe' });
    this.slider = element('input', { type: 'range', min: 0, max: 100 * (this.images.length - 1), step: 5, id: `${id}-wipe` });
    this.slider.addEventListener('input', () => this.set(Number(this.slider.value)));
    const label = element('label', { for: `${id}-wipe` }, `Slide from ${this.names.join(' to ')} (arrow keys work too)`);
    const stops = element('div', { class: 'stops' });
    this.buttons = this.names.map((name, i) => {
      const button = element('button', { type: 'button' }, name);
      button.addEventListener('click', () => this.set(100 * i));
      return button;
    });
    stops.append(...this.buttons);
    controls.append(label, this.slider, stops);
    return controls;
  }

  drag(event) {
    if (event.type === 'pointerdown') this.stage.setPointerCapture(event.pointerId);
    const box = this.stage.getBoundingClientRect();
    const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    const lower = Math.min(Math.floor(this.position / 100), this.images.length - 2);
    this.set(100 * Math.max(lower, 0) + Math.min(Math.round(100 * share), 99.9));
  }

  // 0 is the first image, 100 the second; between them the second covers the left part.
  set(position) {
    const last = 100 * (this.images.length - 1);
    this.position = Math.min(Math.max(position, 0), last);
    const lower = Math.floor(this.position / 100), share = (this.position % 100) / 100;
    this.images.forEach((image, i) => {
      image.style.visibility = i === lower || (i === lower + 1 && share > 0) ? 'visible' : 'hidden';
      image.style.clipPath = i === lower + 1 ? `inset(0 ${100 * (1 - share)}% 0 0)` : 'none';
    });
    this.divider.style.left = `${100 * share}%`;
    this.divider.style.display = share > 0 ? '' : 'none';
    this.tags[0].textContent = share > 0 ? this.names[lower + 1] : this.names[lower];
    this.tags[1].textContent = this.names[lower];
    this.tags[1].style.display = share > 0 ? '' : 'none';
    this.slider.value = this.position;
    const text = share > 0 ? `${Math.round(100 * share)} % ${this.names[lower + 1]}, the rest ${this.names[lower]}` : this.names[lower];
    this.slider.setAttribute('aria-valuetext', text);
    this.buttons.forEach((button, i) => button.setAttribute('aria-pressed', String(100 * i === this.position)));
  }
}

// One frame at a time, chosen by buttons; returns a function that shows the frame next to an index.
function frameChooser(section) {
  const frames = [...section.querySelectorAll('.frame')];
  if (!frames.length) return null;
  const choices = element('div', { class: 'choices', role: 'group', 'aria-label': 'Frame to show' });
  const buttons = frames.map((frame, i) => {
    const button = element('button', { type: 'button' }, frame.dataset.label);
    button.addEventListener('click', () => show(i));
    return button;
  });
  choices.append(...buttons);
  frames[0].before(choices);
  frames.forEach((frame) => new Wipe(frame));
  function show(chosen) {
    frames.forEach((frame, i) => { frame.hidden = i !== chosen; });
    buttons.forEach((button, i) => button.setAttribute('aria-pressed', String(i === chosen)));
  }
  show(Math.max(0, frames.findIndex((frame) => 'first' in frame.dataset)));
  return (index) => {
    const distance = (frame) => Math.abs(Number(frame.dataset.index) - index);
    const nearest = frames.reduce((best, frame, i) => (distance(frame) < distance(frames[best]) ? i : best), 0);
    show(nearest);
    section.scrollIntoView();
    buttons[nearest].focus({ preventScroll: true });
  };
}
