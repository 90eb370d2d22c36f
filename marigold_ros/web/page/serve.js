// Choose or drop files, follow their jobs, show what they have found.
'use strict';

const POLL_MS = 250;
const WAIT_MS = 1000; // for a place in the server's queue, and for the network
const MOST_MISSED = 20; // answers: a phone that was locked has no network at first

function byId(id) {
  return document.getElementById(id);
}

function showProblem(text) {
  Object.assign(byId('problem'), { textContent: text, hidden: !text });
  byId('problem').scrollIntoView({ block: 'nearest' }); // small screens have it below otherwise
}

function megabytes(bytes) {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

// The files of this tab, each with its job; one of them is shown, the gallery has all.
class Page {
  constructor(settings) {
    this.settings = settings;
    this.items = [];
    this.unsent = [];
    this.gallery = byId('gallery');
    this.fillModels();
    byId('file').addEventListener('change', (event) => {
      const files = [...event.target.files];
      event.target.value = '';
      this.take(files);
    });
    byId('cancel').addEventListener('click', () => this.cancel(this.shown));
    byId('again').addEventListener('click', () => this.take([this.shown.file]));
    byId('path-form').addEventListener('submit', (event) => { event.preventDefault(); this.name(byId('path').value.trim()); });
    for (const button of document.querySelectorAll('.example')) button.addEventListener('click', () => this.example(button));
    this.listenForDrops(byId('drop'));
    window.addEventListener('popstate', () => this.show(this.find(location.hash.slice(1)), false));
    this.resume(location.hash.slice(1)).catch((error) => showProblem(error.message));
  }

  // A reload goes on with the jobs of this tab.
  async resume(shown) {
    const known = new Set([...JSON.parse(sessionStorage.getItem('jobs') || '[]'), shown]);
    for (const job of await ask('/api/jobs')) if (known.has(job.id)) this.follow(this.add({ name: job.name }), job);
    if (!this.shown) this.show(this.find(shown), false); // a file may have been dropped meanwhile
  }

  find(id) { return this.items.find((item) => item.job && item.job.id === id); }

  fillModels() {
    const select = byId('model');
    for (const model of this.settings.models) select.append(element('option', {}, model.name));
    select.addEventListener('change', () => this.describeModel());
    this.awaitModel();
  }

  describeModel() {
    const model = this.settings.models[byId('model').selectedIndex], remark = model.remark && `${model.name} is ${model.remark}`;
    byId('steps-box').hidden = !model.steps;
    setWords(byId('remark'), this.settings.loading ? 'Loading the model; files may be sent already.' : remark);
    byId('again').textContent = `Again with ${model.name}`;
  }

  // What there is to say of the models is known once the first one is loaded.
  async awaitModel() {
    this.describeModel();
    while (this.settings.loading) {
      await new Promise((done) => { setTimeout(done, WAIT_MS); });
      try { this.settings = await ask('/api/settings'); this.describeModel(); }
      catch (error) { byId('remark').textContent = error.message; }
    }
  }

  listenForDrops(area) {
    const over = (is) => (event) => { event.preventDefault(); area.classList.toggle('over', is); };
    for (const name of ['dragenter', 'dragover']) document.addEventListener(name, over(true));
    document.addEventListener('dragleave', over(false));
    document.addEventListener('drop', (event) => { over(false)(event); this.take([...event.dataTransfer.files]); });
  }

  choices() {
    const steps = byId('steps-box').hidden ? '0' : byId('steps').value;
    return { model: byId('model').value, steps, every: byId('every').value || '1' };
  }

  add(item) {
    item.button = element('button', { type: 'button', class: 'thumb' });
    item.button.addEventListener('click', () => this.show(item));
    this.items.push(item);
    this.gallery.append(item.button);
    this.gallery.hidden = this.items.length < 2;
    return item;
  }

  remove(item) {
    item.button.remove();
    this.items = this.items.filter((other) => other !== item);
    this.unsent = this.unsent.filter((other) => other !== item);
    this.gallery.hidden = this.items.length < 2;
    this.remember();
  }

  remember() { sessionStorage.setItem('jobs', JSON.stringify(this.items.filter((item) => item.job).map((item) => item.job.id))); }

  // Sends files one after another; too large ones are refused here already, as the server would.
  take(files) {
    const { limits, images } = this.settings, added = [];
    for (const file of files) {
      const isPhoto = images.some((suffix) => file.name.toLowerCase().endsWith(suffix));
      const most = isPhoto ? limits.photo : limits.other;
      const item = this.add({ name: file.name, file, query: { name: file.name, ...this.choices() }, text: `sending ${file.name}` });
      if (file.size > most) this.fail(item, `${file.name} has ${megabytes(file.size)}, and may have ${megabytes(most)}`);
      else this.unsent.push(item);
      added.push(item);
    }
    if (added.length) this.show(added[0]);
    this.send();
  }

  async example(button) {
    const image = button.querySelector('img'), content = await fetch(image.src).then((response) => response.blob()).catch(() => null);
    if (content) this.take([new File([content], image.src.split('/').pop())]);
    else showProblem('the server does not answer; is it still running?');
  }

  send() {
    if (this.request || !this.unsent.length) return;
    // Asked before it is sent: jobs that end while it is on its way make room for it.
    const item = this.unsent.shift(), isBusy = this.items.some((other) => other.job && !other.job.ended), request = new XMLHttpRequest();
    Object.assign(this, { request, sending: item });
    request.open('POST', `/api/files?${new URLSearchParams(item.query)}`);
    request.responseType = 'json';
    request.upload.addEventListener('progress', (event) => { Object.assign(item, { done: event.loaded, total: event.total }); this.draw(item); });
    request.addEventListener('loadend', () => { this.request = this.sending = null; this.send(); });
    request.addEventListener('load', () => {
      const answer = request.response;
      if (request.status === 202) this.follow(item, answer);
      else if (request.status === 429 && isBusy) setTimeout(() => { if (this.items.includes(item)) this.unsent.push(item); this.send(); }, WAIT_MS);
      else this.fail(item, answer ? answer.error : 'the server gave no answer; is it still running?');
    });
    request.addEventListener('error', async () => {
      const isRead = await item.file.slice(0, 1).arrayBuffer().then(() => true, () => false);
      this.fail(item, isRead ? `${item.name} could not be sent; is the server still running?` : `${item.name} cannot be read: it is a folder, or was changed after it was chosen; choose its files`);
    });
    request.send(item.file);
  }

  async name(path) {
    const item = this.add({ name: path, text: 'reading the bag' });
    this.show(item);
    try {
      const query = new URLSearchParams({ path, ...this.choices() });
      this.follow(item, await ask(`/api/bags?${query}`, { method: 'POST' }));
    } catch (error) { this.fail(item, error.message); }
  }

  follow(item, job, missed = 0) {
    if (!this.items.includes(item)) { this.end(job); return; } // cancelled meanwhile
    if (!item.job) {
      item.job = job;
      this.remember();
      if (item === this.shown) history.replaceState(null, '', `#${job.id}`);
    }
    Object.assign(item, { job, text: `${job.name}: ${job.text}`, done: job.done, total: job.total });
    if (job.state === 'failed') { this.fail(item, job.text); return; }
    this.draw(item);
    if (job.ended) return;
    setTimeout(async () => {
      let next = null, problem = '', count = 0;
      try { next = await ask(`/api/jobs/${job.id}`); }
      catch (error) {
        if (error instanceof TypeError && missed < MOST_MISSED) [next, count] = [job, missed + 1];
        else problem = error.message;
      }
      if (next) this.follow(item, next, count);
      else this.fail(item, problem);
    }, missed ? WAIT_MS : POLL_MS);
  }

  fail(item, problem) {
    item.problem = problem;
    this.draw(item);
  }

  // Shows an item, or nothing; the address names it, so that going back shows the one before.
  show(item, isNew = true) {
    if (this.view) this.view.close();
    if (isNew && item !== this.shown) history.pushState(null, '', item.job ? `#${item.job.id}` : '#');
    this.view = new ResultView(byId('result'));
    this.shown = item;
    for (const id of ['problem', 'progress', 'again']) byId(id).hidden = true;
    for (const other of this.items) other.button.setAttribute('aria-pressed', String(other === item));
    if (item) this.draw(item);
    if (item && !item.job) byId('progress').scrollIntoView({ block: 'nearest' });
    if (item && item.job && item.job.ended && !item.problem) this.confirm(item);
  }

  // The server keeps the newest results only, those of all tabs.
  async confirm(item) {
    const kept = await ask('/api/jobs').catch(() => null);
    if (!kept || kept.some((job) => job.id === item.job.id)) return;
    this.fail(item, `${item.name}: the server has deleted this result for newer ones; send the file again`);
    if (item === this.shown) this.view.clear();
  }

  // Other results of the same photo, which its slider shows beside its own; not those of a video.
  others(item) {
    return this.items.filter((other) => other !== item && other.file && other.file === item.file && other.job && other.job.kind === 'photo' && other.job.state === 'done' && !other.problem).map((other) => other.job);
  }

  draw(item) {
    const { job } = item, frames = (job && job.result.frames) || [], state = item.problem ? 'failed' : job ? job.state : 'waiting';
    const image = frames.length && !item.problem ? [element('img', { src: fileOf(job, frames[0].depth), alt: '' })] : [];
    const model = (job && job.result.model) || (item.query && item.query.model) || '';
    item.button.replaceChildren(...image, element('span', {}, `${item.name}${model && `, ${model}`}${state === 'done' ? '' : `: ${state}`}`));
    if (item !== this.shown) return;
    showProblem(item.problem || '');
    byId('progress').hidden = Boolean(item.problem);
    byId('again').hidden = !(item.file && job && job.state === 'done');
    const ended = Boolean(job && job.ended), count = job && !ended && item.total > 1 && item.done > 1 ? `, ${item.done} of ${item.total}` : '';
    byId('status').textContent = (item.text || '') + count;
    for (const id of ['cancel', 'bar']) byId(id).hidden = ended;
    if (item.total) byId('bar').value = item.done / item.total;
    else byId('bar').removeAttribute('value');
    if (job && !item.problem) this.view.update(job, this.others(item));
  }

  end(job) { fetch(`/api/jobs/${job.id}`, { method: 'DELETE' }).catch(() => showProblem(`the server does not answer, and may go on with ${job.name}`)); }

  cancel(item) {
    if (item === this.sending) this.request.abort();
    if (item.job) this.end(item.job);
    this.remove(item);
    history.replaceState(null, '', '/');
    this.show(null, false);
    showProblem('cancelled');
  }
}

ask('/api/settings').then((settings) => new Page(settings)).catch((error) => showProblem(error.message));
