// check.mjs -- heapd's .heapsnapshot files in the real DevTools of headless Chromium.
//
//   node check.mjs HEAPD SCREENSHOT_FOLDER
//
// A daemon of our own gets a heap with cycles, names, a session that holds, and weakrefs; it is exported,
// changed and exported again.  DevTools must show, of the first: every type with its number of objects and
// their size; of a chosen object: who retains it, up to the name; of the second compared with the first:
// what is new and what is gone.
// Exit code 0: all as it should be.  Needs playwright-core beside it and Debian's chromium.
import { chromium } from 'playwright-core';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [heapd, screenshots] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), 'heapd-devtools-'));
const failures = [];

function demand(what, good, seen) {
  console.log(`${good ? 'ok  ' : 'FAIL'} ${what}${good ? '' : `; seen: ${JSON.stringify(seen)}`}`);
  if (!good) {
    failures.push(what);
  }
}

// ---- the daemon ----

function startDaemon() {
  const socket = join(folder, 's');
  const daemon = spawn(heapd, ['--listen', `unix:${socket}`, '--export-dir', folder],
    { stdio: ['ignore', 'pipe', 'inherit'] });
  return new Promise((resolve, reject) => {
    daemon.once('exit', () => reject(new Error('heapd has ended')));
    daemon.stdout.once('data', () => resolve({ daemon, socket }));
  });
}

// A connection; call() sends one request and resolves with its result.
function connect(path) {
  const socket = net.connect(path);
  const waiting = [];
  let text = '';
  socket.on('data', (bytes) => {
    text += bytes;
    for (let end; (end = text.indexOf('\n')) >= 0; text = text.slice(end + 1)) {
      const reply = JSON.parse(text.slice(0, end));
      const { resolve, reject } = waiting.shift();
      reply.error ? reject(new Error(reply.error.message)) : resolve(reply.result);
    }
  });
  return {
    call: (method, params = {}) => new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      socket.write(`${JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })}\n`);
    }),
    end: () => socket.end(),
  };
}

// A cache of 300 points that refer to each other in a ring, 200 lists of 3 floats that the session holds, a
// weakref, and objects of a class whose name DevTools takes for its own.
async function plant(client) {
  await client.call('create', { value: { $class: 'Point', slots: ['x', 'next'] }, name: 'Point' });
  const points = {};
  for (let i = 0; i < 300; i++) {
    points[`p${i}`] = { $instance: 'Point', attrs: { x: i + 1000, next: { $label: `p${(i + 1) % 300}` } } };
  }
  const items = Object.keys(points).map((label) => ({ $label: label }));
  await client.call('create', { value: { $let: points, in: { points: items } }, name: 'cache' });
  const held = [];
  for (let i = 0; i < 200; i++) {
    held.push(await client.call('create', { value: [i + 0.5, i + 0.25, i + 0.125] }));
  }
  await client.call('create', { value: { $weakref: 'cache' }, name: 'weak' });
  await client.call('create', { value: { $class: 'Object' }, name: 'Object' });
  const plain = [];
  for (let i = 0; i < 50; i++) {
    plain.push({ $instance: 'Object', attrs: { a: i + 1000, b: i + 2000 } });
  }
  await client.call('create', { value: { $tuple: plain }, name: 'plain' });
  return held;
}

// ---- DevTools ----

async function openDevTools() {
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  const page = await (await browser.newContext({ viewport: { width: 1500, height: 900 } })).newPage();
  page.on('pageerror', (error) => demand('DevTools runs without errors', false, error.message));
  await page.goto('devtools://devtools/bundled/devtools_app.html?panel=heap-profiler');
  return { browser, page };
}

// Loads a snapshot and selects it.
async function load(page, name) {
  const before = await page.getByRole('treeitem').count();
  await page.getByRole('treeitem').first().click();
  const button = page.getByText('Load profile').first();
  const [chooser] = await Promise.all([page.waitForEvent('filechooser'), button.click()]);
  await chooser.setFiles(join(folder, name));
  // While it loads the item shows what is being done, then the snapshot's size.
  for (let texts = []; texts.length <= before || !/\([\d.,\s]*[kM]?B\)/.test(texts.at(-1)); ) {
    await page.waitForTimeout(100);
    texts = await page.getByRole('treeitem').allInnerTexts();
  }
  await page.getByRole('treeitem').last().click();
}

// Rows of the grid number `index`, a list of cells each; waits until one of them has `text`.
async function rows(page, index, text) {
  const grid = page.locator('.data-grid').nth(index);
  if (text !== undefined) {
    await grid.locator('tr', { hasText: text }).first().waitFor();
  }
  const cells = await grid.locator('tr').evaluateAll((all) => all.map((row) =>
    Array.from(row.querySelectorAll('td'), (cell) => cell.innerText.replace(/\s+/g, ' ').trim())));
  return cells.filter((row) => row.length > 1 && row[0] !== '');
}

// How DevTools writes a number of bytes in its columns.
function kilobytes(bytes) {
  return `${(bytes / 1000).toFixed(1)} kB`;
}

// What the class column shows of one of heapd's types.
function constructorOf(type) {
  return type === 'str' ? '(string)' : type;
}

async function checkSummary(page, types) {
  const shown = await rows(page, 0, 'Point');
  for (const { type, objects, bytes } of types) {
    const title = constructorOf(type) + (objects > 1 ? ` ×${objects}` : '');
    const row = shown.find((cells) => cells[0].replace(/ ?×/, ' ×') === title);
    demand(`Summary shows ${title} of ${kilobytes(bytes)}`,
      row !== undefined && row[2].startsWith(kilobytes(bytes)),
      row ?? shown.map((cells) => cells[0]));
  }
  demand('Summary shows nothing else', shown.length === types.length, shown.map((cells) => cells[0]));
}

// Opens a type, selects its first object; what the Retainers say of it, without blanks, once
// they say `expected`.
async function retainersOf(page, type, expected) {
  const grid = page.locator('.data-grid').first();
  await grid.locator('tr', { hasText: new RegExp(`^${type}`) }).first().click();
  await page.keyboard.press('ArrowRight');
  await grid.locator('tr', { hasText: new RegExp(`^${type}\\s*@\\d+`) }).first().click();
  const shown = await rows(page, 1, expected);
  await page.screenshot({ path: join(screenshots, `devtools-retainers-${type}.png`) });
  await grid.locator('tr', { hasText: new RegExp(`^${type}`) }).first().click();
  await page.keyboard.press('ArrowLeft');
  return shown.map((cells) => cells[0].replaceAll(' ', ''));
}

async function checkRetainers(page) {
  const ofWeakref = await retainersOf(page, 'weakref', 'name weak');
  demand('Retainers of the weakref name its name',
    ofWeakref.some((text) => /^objectinnameweak/.test(text)), ofWeakref);
  const ofFloat = await retainersOf(page, 'float', 'list');
  demand('Retainers of a float show its index in a list',
    ofFloat.some((text) => /^\[[0-2]\]inlist@\d+/.test(text)), ofFloat);
  demand('and the session that holds the list', ofFloat.some((text) => /insession\d+/.test(text)), ofFloat);
  const ofDict = await retainersOf(page, 'dict', 'name cache');
  demand('Retainers of the cache name its name',
    ofDict.some((text) => /^objectinnamecache/.test(text)), ofDict);
  demand('and not the weakref', ofDict.length === 1, ofDict);
}

async function checkComparison(page) {
  await page.locator('select').first().selectOption({ label: 'Comparison' });
  const shown = await rows(page, 0, 'bytes');
  const row = (type) => shown.find((cells) => cells[0].split(' ')[0].split('×')[0] === type) ?? [];
  demand('Comparison shows 150 new bytes objects',
    row('bytes')[1] === '150' && row('bytes')[2] === '0', shown);
  demand('Comparison shows 50 lists gone', row('list')[1] === '0' && row('list')[2] === '50', shown);
  demand('Comparison shows 150 floats gone', row('float')[1] === '0' && row('float')[2] === '150', shown);
  demand('Comparison shows no point', row('Point').length === 0, shown);
  await page.screenshot({ path: join(screenshots, 'devtools-comparison.png') });
}

// ---- the whole ----

const { daemon, socket } = await startDaemon();
const { browser, page } = await openDevTools();
try {
  const client = connect(socket);
  const held = await plant(client);
  await client.call('heap.export', { format: 'heapsnapshot', path: 'before.heapsnapshot' });
  const { types } = await client.call('heap.types');
  for (const { object } of held.slice(0, 50)) {
    await client.call('unref', { object });
  }
  for (let i = 0; i < 150; i++) {
    await client.call('create', { value: { $bytes: Buffer.from(`more ${i}`).toString('base64') } });
  }
  await client.call('heap.export', { format: 'heapsnapshot', path: 'after.heapsnapshot' });
  const check = await client.call('heap.check');
  demand('heap.check finds nothing', check.ok, check);
  await load(page, 'before.heapsnapshot');
  await checkSummary(page, types);
  await page.screenshot({ path: join(screenshots, 'devtools-summary.png') });
  await checkRetainers(page);
  await load(page, 'after.heapsnapshot');
  await checkComparison(page);
  client.end();
} catch (error) {
  demand('the check runs to its end', false, error.message);
  await page.screenshot({ path: join(screenshots, 'devtools-failure.png') });
} finally {
  await browser.close();
  daemon.removeAllListeners('exit');
  daemon.kill('SIGTERM');
  await new Promise((resolve) => daemon.once('exit', resolve));
  rmSync(folder, { recursive: true });
}
console.log(failures.length === 0 ? 'DevTools shows the heap as it is' : `${failures.length} failures`);
process.exitCode = failures.length === 0 ? 0 : 1;
