// What a job has found: image and depth with a slider, the frames of a video, a cloud, downloads.
'use strict';

const PLAY_MS = 200;

// Returns the JSON of an answer; an error is in words, and a TypeError if there was no answer.
async function ask(path, options) {
  const response = await fetch(path, options).catch(() => { throw new TypeError('the server does not answer; is it still running?'); });
  const content = await response.json();
  if (!response.ok) throw new Error(content.error);
  return content;
}

function fileOf(job, name) {
  return `/api/jobs/${job.id}/files/${encodeURIComponent(name)}`;
}

// Shows text with commands between backticks.
function setWords(target, text) {
  target.replaceChildren(...text.split('`').map((part, i) => (i % 2 ? element('code', {}, part) : part)));
}

// Image and depth over each other, by several models if there are more results of the photo;
// `show` changes the frame without moving the slider.
class DepthView {
  constructor(job, others) {
    const { result } = job;
    this.panel = element('div', { class: 'panel frame', id: 'depth-view' });
    this.others = others;
    const names = others.length ? [...others, job].map((one) => one.result.model) : ['depth'];
    const layers = element('div', { class: 'layers' });
    for (const name of ['image', ...names]) {
      const figure = element('figure', { 'data-name': name });
      const what = name === 'image' || name === 'depth' ? name : `depth by ${name}`;
      figure.append(element('img', { alt: `${what} of ${job.name}`, width: result.width, height: result.height }));
      layers.append(figure);
    }
    this.panel.append(element('h2', {}, job.name), layers, this.legend([...others, job]));
    this.wipe = new Wipe(this.panel);
    this.wipe.set(100 * names.length - 50);
    this.facts = element('p', { class: 'note' });
    this.panel.append(this.facts);
  }

  // Relative depth has one scale, and metres have one of their own for each model.
  legend(jobs) {
    const box = element('div', { class: 'ramps' });
    const shown = jobs.some((one) => one.result.metric) ? jobs : jobs.slice(-1);
    this.ticks = shown.map(({ result }) => {
      const part = element('div'), ticks = shape('svg', {}), unit = result.metric ? 'depth in metres' : 'relative depth, without unit';
      part.append(shown.length > 1 ? `${result.model}: ${unit}` : unit, element('span', { class: 'ramp depth' }), ticks);
      box.append(part);
      return ticks;
    });
    return box;
  }

  show(job, number) {
    const frame = job.result.frames[number];
    const depths = this.others.map((other) => fileOf(other, other.result.frames[0].depth));
    const scales = [...this.others.map((other) => other.result.frames[0].ticks), frame.ticks].slice(-this.ticks.length);
    const sources = [fileOf(job, frame.image), ...depths, fileOf(job, frame.depth)];
    this.wipe.images.forEach((figure, i) => { figure.querySelector('img').src = sources[i]; });
    this.ticks.forEach((ticks, i) => ticks.replaceChildren(...Object.entries(scales[i]).map(([text, place]) => {
      const anchor = place < 0.05 ? 'start' : place > 0.95 ? 'end' : 'middle';
      return shape('text', { x: `${100 * place}%`, y: 12, 'text-anchor': anchor }, text);
    })));
  }

  describe(result) {
    const each = result.images ? ` an image, ${result.images} images` : '';
    const remark = result.remark ? ` (${result.remark})` : '';
    setWords(this.facts, `${result.width}×${result.height}, ${result.predict_ms} ms${each} by ${result.model}${remark}`);
  }
}

// Frames of a video: a slider over time that follows the newest one until somebody moves it.
class Player {
  constructor(view) {
    this.view = view;
    this.box = element('div', { class: 'player' });
    this.label = element('label', { for: 'frame-number' });
    this.button = element('button', { type: 'button' }, 'Play');
    this.slider = element('input', { type: 'range', id: 'frame-number', min: 0, max: 0, step: 1, value: 0 });
    this.box.append(this.label, this.button, this.slider);
    this.follows = true;
    this.slider.addEventListener('input', () => { this.follows = false; this.stop(); this.draw(); });
    this.button.addEventListener('click', () => (this.timer ? this.stop() : this.play()));
  }

  update(job) {
    const { frames } = job.result, seen = this.follows ? Infinity : this.job.result.frames[this.slider.value].number;
    this.job = job;
    this.slider.max = frames.length - 1;
    this.slider.value = frames.filter(({ number }) => number <= seen).length - 1; // long videos lose every other one meanwhile
    if (this.follows) this.draw();
  }

  draw() {
    const number = Number(this.slider.value), frame = this.job.result.frames[number];
    this.view.show(this.job, number);
    const seconds = (frame.number / this.job.result.rate).toFixed(1);
    this.label.textContent = `Image ${frame.number + 1} of the video, at ${seconds} s`;
    this.slider.setAttribute('aria-valuetext', `image ${frame.number + 1}, ${seconds} s`);
  }

  play() {
    this.follows = false;
    this.button.textContent = 'Pause';
    this.timer = setInterval(() => {
      this.slider.value = (Number(this.slider.value) + 1) % (Number(this.slider.max) + 1);
      this.draw();
    }, PLAY_MS);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    this.button.textContent = 'Play';
  }
}

// Shows the newest state of one job; made anew for the next job.
class ResultView {
  constructor(section) {
    this.section = section;
    this.clear();
  }

  clear() {
    this.close();
    this.section.replaceChildren();
    this.section.hidden = true;
  }

  update(job, others) {
    const { result } = job;
    this.others = others;
    if (result.frames && result.frames.length) this.depth(job);
    if (result.bag && !this.found) this.describe(job);
    if (result.verdict && !this.verdict) this.report(job);
    if (result.cloud && !this.hasCloud) this.cloud(job);
    if (job.state === 'done' && result.downloads && !this.downloads) this.offer(job);
  }

  // What a bag holds, before it is replayed.
  describe(job) {
    this.found = element('dl', { class: 'found' });
    for (const [role, text] of Object.entries(job.result.bag)) {
      this.found.append(element('dt', {}, role), element('dd', {}, text));
    }
    this.section.append(element('h2', {}, job.name), this.found);
    this.reveal();
  }

  reveal() {
    this.section.hidden = false;
    // Phones show the result below the screen otherwise.
    this.section.scrollIntoView({ block: 'nearest' });
  }

  depth(job) {
    if (!this.view) {
      this.view = new DepthView(job, this.others);
      this.section.append(this.view.panel);
      this.reveal();
      if (job.kind === 'video') {
        this.player = new Player(this.view);
        this.view.facts.before(this.player.box);
      } else this.view.show(job, 0);
    }
    if (this.player) this.player.update(job);
    this.view.describe(job.result);
  }

  async cloud(job) {
    this.hasCloud = true;
    const { points, note, lost } = await ask(fileOf(job, job.result.cloud)).catch((error) => ({ lost: error.message }));
    // Another file may have been sent meanwhile.
    if (!(points || lost) || !this.view.panel.isConnected) return;
    const panel = element('div', { class: 'panel cloud' });
    panel.append(element('h3', {}, 'Point cloud'), element('p', { class: 'note' }, lost || `Drag to turn, pinch or scroll to zoom. ${note}`));
    this.section.append(panel);
    if (points) new Cloud(panel, points);
  }

  report(job) {
    this.verdict = element('div');
    // Escaped by the server, which writes the same into the report.
    this.verdict.innerHTML = job.result.verdict;
    const open = element('a', { class: 'open', href: fileOf(job, 'report.html'), target: '_blank', rel: 'noopener' }, 'Open the report');
    const facts = element('p', { class: 'note' }, job.result.facts);
    this.found.before(this.verdict);
    this.found.after(open, facts);
    if (job.result.warning) this.section.append(element('p', { class: 'warning' }, job.result.warning));
  }

  offer(job) {
    this.downloads = element('ul', { class: 'downloads', 'aria-label': 'Downloads' });
    for (const name of job.result.downloads) {
      const item = element('li');
      item.append(element('a', { href: fileOf(job, name), download: name }, `⤓ ${name}`));
      this.downloads.append(item);
    }
    (this.view ? this.view.panel : this.section).append(this.downloads);
  }

  close() {
    if (this.player) this.player.stop();
  }
}
