"use strict";

// Data ----------------------------------------------------------------------------------------------------------------

const blocks = (kind) => [...document.querySelectorAll(`script.${kind}`)].map((block) => JSON.parse(block.textContent));
const named = (columns, row) => Object.fromEntries(columns.map((name, i) => [name, row[i]]));

const [about] = blocks("about");
const tracks = blocks("track").flat().map((row) => ({ kind: "track", ...named(about.columns.track, row) }));
const stays = blocks("stay").flat().map((row) => ({ kind: "stay", ...named(about.columns.stay, row) }));
const items = [...tracks, ...stays].sort((a, b) => a.start - b.start || a.end - b.end);
for (const track of tracks) {
  track.legs = track.legs.map((row) => named(about.columns.leg, row));
  track.lines = track.lines.map(decode);
}

/** A line of steps as its leg and its [lat, lon]. */
function decode([leg, ...steps]) {
  let lon = 0, lat = 0;
  const places = [];
  for (let i = 0; i < steps.length; i += 2) {
    lon += steps[i];
    lat += steps[i + 1];
    places.push([lat / about.units_per_degree, lon / about.units_per_degree]);
  }
  return { leg, places };
}

/** The world is cut where least is lost: in the middle of the widest band of longitudes without anything. */
function cutWorld() {
  const spans = [
    ...tracks.flatMap((track) => track.lines.map(({ places }) => {
      const lons = places.map(([, lon]) => lon);
      return [lons.reduce((a, b) => Math.min(a, b)), lons.reduce((a, b) => Math.max(a, b))];
    })),
    ...stays.map(({ lon }) => [lon, lon]),
  ].sort((a, b) => a[0] - b[0]);
  let end = spans.reduce((most, span) => Math.max(most, span[1]), -Infinity) - 360;
  let [widest, cut] = [0, -180];
  for (const [lo, hi] of spans) {
    if (lo - end > widest) [widest, cut] = [lo - end, (lo + end) / 2];
    end = Math.max(end, hi);
  }
  const moved = (lon) => (lon < cut ? lon + 360 : lon);
  for (const stay of stays) stay.lon = moved(stay.lon);
  for (const { places } of tracks.flatMap((track) => track.lines)) {
    // A line lies on one side of the cut; its ends may lie on the antimeridian.
    if (places.every(([, lon]) => lon <= cut)) for (const place of places) place[1] += 360;
  }
}
cutWorld();

// Words ---------------------------------------------------------------------------------------------------------------

const one = (id) => document.getElementById(id);
const round = (number, digits) =>
  number.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const kilometres = (metres) => `${round(metres / 1000, metres < 99_950 ? 2 : 0)} km`;
const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 16);
const date = (seconds, options = {}) =>
  new Date(seconds * 1000).toLocaleDateString("en-GB", { timeZone: "UTC", day: "numeric", month: "short", ...options });
const fullDate = (seconds) => date(seconds, { weekday: "short", year: "numeric" });
const capital = (text) => text[0].toUpperCase() + text.slice(1);

function hours(seconds) {
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return minutes ? `${minutes} min` : `${round(seconds, 0)} s`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(minutes / 1440)} d ${Math.floor((minutes % 1440) / 60)} h`;
}

function span(item) {
  const sameDay = Math.floor(item.start / 86400) === Math.floor(item.end / 86400);
  return `${clock(item.start)} to ${sameDay ? "" : `${date(item.end)}, `}${clock(item.end)}`;
}

/** An element with texts and elements in it; a text is never read as HTML. */
function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}
const coloured = (name, className, colour, text) => {
  const made = element(name, { className }, text);
  made.style.setProperty("--colour", colour);
  return made;
};

// The map -------------------------------------------------------------------------------------------------------------

const map = L.map("map", { zoomControl: false, zoomSnap: 0.25, minZoom: 1, maxZoom: 19, wheelPxPerZoomLevel: 100 });
const renderer = L.canvas({ padding: 0.3, tolerance: 5 });
map.attributionControl.setPrefix("Leaflet");
L.control.scale({ position: "bottomleft", imperial: false }).addTo(map);
if (about.tiles) {
  const attribution = element("span", {}, about.tiles.attribution).innerHTML;
  L.tileLayer(about.tiles.url, { attribution, maxZoom: 19 }).addTo(map);
}

const style = getComputedStyle(document.documentElement);
const colour = (name) => style.getPropertyValue(`--${name}`).trim();

/** Meridians and parallels with their degrees: something to hold on to where nothing else is drawn. */
const grid = L.layerGroup().addTo(map);
map.createPane("grid").style.zIndex = 250;
const gridRenderer = L.canvas({ pane: "grid", padding: 0.5 });
function drawGrid() {
  grid.clearLayers();
  const seen = map.getBounds(), wide = seen.pad(0.5);
  const aim = ((seen.getEast() - seen.getWest()) / map.getSize().x) * 160;
  const steps = [30, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005];
  const step = steps.find((degrees) => degrees <= aim) ?? 0.0002;
  const digits = Math.max(0, Math.ceil(-Math.log10(step)));
  const [south, north] = [Math.max(wide.getSouth(), -85), Math.min(wide.getNorth(), 85)];
  const corner = map.containerPointToLatLng([0, one("time").offsetTop - 4]);
  const line = (ends) => L.polyline(ends, {
    renderer: gridRenderer, pane: "grid", interactive: false, color: colour("grid"), weight: 1, noClip: true,
  }).addTo(grid);
  const label = (place, text, left, top) => {
    const words = element("span", {}, text);
    Object.assign(words.style, { left, top });
    L.marker(place, {
      pane: "grid", interactive: false, keyboard: false,
      icon: L.divIcon({ className: "degree", iconSize: [0, 0], html: words }),
    }).addTo(grid);
  };
  for (let n = Math.ceil(wide.getWest() / step); n * step < wide.getEast(); n++) {
    const lon = n * step, shown = ((((lon + 180) % 360) + 360) % 360) - 180;
    line([[south, lon], [north, lon]]);
    const side = Math.abs(shown) < 1e-9 || Math.abs(shown) === 180 ? "" : shown < 0 ? " W" : " E";
    label([corner.lat, lon], `${Math.abs(shown).toFixed(digits)}°${side}`, "2px", "-16px");
  }
  for (let n = Math.ceil(south / step); n * step < north; n++) {
    const lat = n * step;
    line([[lat, wide.getWest()], [lat, wide.getEast()]]);
    label([lat, corner.lng], `${Math.abs(lat).toFixed(digits)}°${n ? (lat < 0 ? " S" : " N") : ""}`, "2px", "-7px");
  }
}

// What is drawn -------------------------------------------------------------------------------------------------------

const radius = (stay) => Math.min(4 + 3 * Math.sqrt(stay.duration_s / 3600), 28);

/** Each layer has the places of one mode: `mode` is told by it, and all layers of a track have its day. */
for (const track of tracks) {
  const byMode = new Map();
  for (const { leg, places } of track.lines) {
    const { mode } = track.legs[leg];
    if (!byMode.has(mode)) byMode.set(mode, []);
    byMode.get(mode).push(places);
  }
  track.layers = [...byMode].map(([mode, lines]) =>
    Object.assign(L.polyline(lines, { renderer, weight: 2.5, opacity: 0.75 }), { mode }));
  track.bounds = track.layers.reduce((all, layer) => all.extend(layer.getBounds()), L.latLngBounds([]));
}
for (const stay of stays) {
  const place = [stay.lat, stay.lon];
  stay.layers = [L.circleMarker(place, { renderer, radius: radius(stay), weight: 1 })];
  stay.bounds = L.latLngBounds([place]);
}

// The slider counts steps of time: so many that each can be hit, and none that nobody would see.
const STEPS = [900, 3600, 86_400, 7 * 86_400, 30 * 86_400];
const first = items.reduce((least, item) => Math.min(least, item.start), Infinity);
const last = items.reduce((most, item) => Math.max(most, item.end), -Infinity);
const step = STEPS.find((seconds) => (last - first) / seconds <= 750) ?? 365 * 86_400;
const zero = Math.floor(first / step) * step;
const count = Math.floor((last - zero) / step) + 1;
const shown = { from: 0, to: count, byDay: true, items: [], selected: null };

const isShown = (item) =>
  item.start < zero + shown.to * step && item.end >= zero + shown.from * step &&
  (item.kind === "track" || one("with-stays").checked);

/** The days of what is shown, from the first to the last. */
function daysShown() {
  const day = (seconds) => Math.floor(seconds / 86400);
  const [lo, hi] = [day(zero + shown.from * step), day(zero + shown.to * step - 1)];
  return [Math.max(lo, day(first)), Math.min(hi, day(last))];
}

let ramp = [];
function readTheme() {
  ramp = colour("days").split(",").map((hex) => [1, 3, 5].map((i) => parseInt(hex.trim().slice(i, i + 2), 16)));
}
function ofRamp(share) {
  const at = Math.min(Math.max(share, 0), 1) * (ramp.length - 1), i = Math.min(Math.floor(at), ramp.length - 2);
  return `rgb(${ramp[i].map((low, c) => Math.round(low + (ramp[i + 1][c] - low) * (at - i))).join()})`;
}

function paint() {
  const [lo, hi] = daysShown(), modes = about.modes.map(colour), ofStays = colour("stay");
  const change = (layer, style) => {
    if (Object.keys(style).some((name) => layer.options[name] !== style[name])) layer.setStyle(style);
  };
  // A hundred nights in one place, one over the other, shall not be a black disc: the longest stand for them.
  const nearby = new Map();
  for (const item of shown.items.filter(({ kind }) => kind === "stay").sort((a, b) => b.duration_s - a.duration_s)) {
    const place = map.project(item.bounds.getCenter()).divideBy(12).round().toString();
    if (!nearby.has(place)) nearby.set(place, []);
    nearby.get(place).push(item);
  }
  for (const rests of nearby.values()) {
    const drawn = Math.min(rests.length, 8);
    rests.forEach(({ layers: [layer] }, n) => change(layer, {
      color: ofStays, fillColor: ofStays, opacity: n < drawn ? 0.9 / drawn : 0, fillOpacity: n < drawn ? 0.35 / drawn : 0,
    }));
  }
  for (const item of shown.items) {
    if (item.kind === "stay") continue;
    const ofDay = shown.byDay && ofRamp((Math.floor(item.start / 86400) - lo) / (hi - lo || 1));
    for (const layer of item.layers) change(layer, { color: ofDay || modes[layer.mode] });
  }
}

/** Draw what lies in the span of time: later things over earlier ones, tracks over stays. */
function show() {
  const now = items.filter(isShown), isNow = new Set(now);
  for (const item of shown.items) if (!isNow.has(item)) for (const layer of item.layers) layer.remove();
  const before = new Set(shown.items);
  shown.items = now;
  paint();
  let added = false;
  for (const item of now) {
    if (!before.has(item)) {
      added = true;
      for (const layer of item.layers) layer.addTo(map);
    }
  }
  if (added) {
    for (const kind of ["stay", "track"]) {
      for (const item of now) if (item.kind === kind) for (const layer of item.layers) layer.bringToFront();
    }
  }
  if (shown.selected && !isNow.has(shown.selected)) select(null);
  highlight();
  describe();
  drawBars();
}

let waiting = 0;
function showSoon() {
  waiting ||= requestAnimationFrame(() => {
    waiting = 0;
    show();
  });
}

// What is said about it -----------------------------------------------------------------------------------------------

function describe() {
  const there = shown.items.filter(({ kind }) => kind === "track"), rests = shown.items.length - there.length;
  const metres = there.reduce((sum, track) => sum + track.distance_m, 0);
  const plural = (number, word) => `${round(number, 0)} ${word}${number === 1 ? "" : "s"}`;
  one("sums").textContent = `${plural(there.length, "track")}, ${kilometres(metres)}, ${plural(rests, "stay")}`;
  one("sums").dataset.tracks = there.length;
  one("sums").dataset.stays = rests;

  const [from, to] = [zero + shown.from * step, zero + shown.to * step];
  const edge = (seconds) => (step < 86400 ? `${fullDate(seconds)}, ${clock(seconds)}` : fullDate(seconds));
  const end = step < 86400 ? to : to - 86400;
  const until = step < 86400 && fullDate(from) === fullDate(end) ? clock(end) : edge(end);
  one("span").textContent = edge(from) === until ? until : `${edge(from)} to ${until}`;
  one("from").setAttribute("aria-valuetext", edge(from));
  one("to").setAttribute("aria-valuetext", edge(end));
  drawLegend();
}

function drawLegend() {
  const [lo, hi] = daysShown(), rows = [];
  const label = (day) => date(day * 86400, hi - lo > 300 ? { year: "numeric" } : {});
  if (!shown.byDay) {
    const there = new Set(shown.items.flatMap((item) => (item.legs ?? []).map(({ mode }) => mode)));
    about.modes.forEach((mode, n) => there.has(n) && rows.push(coloured("span", "swatch", `var(--${mode})`, mode)));
  } else if (hi - lo < 8) {
    for (let day = lo; day <= hi; day++) {
      const text = date(day * 86400, { weekday: "short" });
      rows.push(coloured("span", "swatch", ofRamp((day - lo) / (hi - lo || 1)), text));
    }
  } else {
    rows.push(element("div", { className: "ramp" }));
    rows.push(element("span", { className: "first" }, label(lo)), element("span", { className: "last" }, label(hi)));
  }
  one("legend").replaceChildren(...rows);
}

function facts(rows, className = "") {
  const known = rows.filter(([, value]) => value !== null);
  return element("dl", { className }, ...known.flatMap(([name, value]) => [
    element("dt", {}, name), element("dd", {}, value),
  ]));
}

const heading = (item) =>
  item.kind === "track" ? `${capital(about.modes[item.mode])}, ${kilometres(item.distance_m)}`
    : `Stay of ${hours(item.duration_s)}${item.ongoing ? ", and still there" : ""}`;

function factsOf(item) {
  const [user, device, zone] = about.devices[item.device];
  const metres = (value) => (value === null ? null : `${round(value, 0)} m`);
  const numbers = item.kind === "track" ? [
    ["Distance", `${round(item.distance_m / 1000, 3)} km`],
    ["Duration", hours(item.duration_s)],
    ["Moving", hours(item.moving_s)],
    ["Average speed", `${round(item.avg_speed_kmh, 1)} km/h`],
    ["Moving speed", `${round(item.moving_speed_kmh, 1)} km/h`],
    ["Climb", item.elevation_gain_m === null ? null
      : `${metres(item.elevation_gain_m)} up, ${metres(item.elevation_loss_m)} down`],
    ["Altitude", item.elevation_min_m === null ? null
      : `${round(item.elevation_min_m, 0)} to ${metres(item.elevation_max_m)}`],
  ] : [
    ["Place", `${round(item.lat, 5)}, ${round(((item.lon + 540) % 360) - 180, 5)}`],
    ["Within", metres(item.radius_m)],
  ];
  const made = [
    element("p", { className: "when" }, `${fullDate(item.start)}, ${span(item)} (${zone})`),
    facts([...numbers, ["Fixes", round(item.points, 0)], ["Recorded by", device ? `${user}, ${device}` : user]]),
    facts([["Begins", item.begins], ["Ends", item.ends]], "why"),
  ];
  if (item.legs?.length > 1) {
    const head = ["Mode", "From", "Distance", "Sure"].map((text) => element("th", { scope: "col" }, text));
    const rows = item.legs.map((leg) => element("tr", {},
      coloured("td", "mode", `var(--${about.modes[leg.mode]})`, about.modes[leg.mode]),
      element("td", {}, clock(leg.start)),
      element("td", {}, kilometres(leg.distance_m)),
      element("td", {}, leg.source === "rule" ? `${leg.confidence} %` : `by ${leg.source}`)));
    made.push(element("table", {}, element("caption", {}, "Legs"), element("tr", {}, ...head), ...rows));
  }
  made.push(element("p", { className: "id" }, item.track_id ?? item.stay_id));
  return made;
}

// What is selected ----------------------------------------------------------------------------------------------------

const marks = L.layerGroup().addTo(map);

/** Draw what is selected over all the rest. */
function highlight() {
  marks.clearLayers();
  const item = shown.selected;
  if (!item) return;
  const common = { renderer, interactive: false };
  if (item.kind === "stay") {
    const [layer] = item.layers;
    const options = { ...common, radius: radius(item), color: colour("accent"), weight: 3, fillOpacity: 0.25 };
    L.circleMarker(layer.getLatLng(), options).addTo(marks);
    return;
  }
  for (const [weight, ink] of [[11, "halo"], [8, "ink"]]) {
    for (const layer of item.layers) {
      L.polyline(layer.getLatLngs(), { ...common, color: colour(ink), weight, opacity: ink === "ink" ? 1 : 0.8 }).addTo(marks);
    }
  }
  for (const layer of item.layers) {
    L.polyline(layer.getLatLngs(), { ...common, color: layer.options.color, weight: 4, opacity: 1 }).addTo(marks);
  }
  const [from, to] = [item.lines[0].places[0], item.lines.at(-1).places.at(-1)];
  const end = { ...common, radius: 6, color: colour("ink"), weight: 2, fillOpacity: 1 };
  L.circleMarker(from, { ...end, fillColor: colour("halo") }).addTo(marks);
  L.circleMarker(to, { ...end, fillColor: colour("ink") }).addTo(marks);
}

/** Show an item's statistics; `candidates` are those at the same place. */
function select(item, candidates = []) {
  shown.selected = item;
  one("details").hidden = !item;
  highlight();
  if (!item) return;
  one("what").textContent = heading(item);
  one("facts").replaceChildren(...factsOf(item));
  one("details").scrollTop = 0;
  one("choice").hidden = candidates.length < 2;
  if (candidates.length > 1) {
    one("here").textContent = `${candidates.length} here:`;
    one("choices").replaceChildren(...candidates.map((other, n) =>
      element("option", { value: n, selected: other === item }, `${date(other.start)}, ${clock(other.start)}: ${heading(other)}`)));
    one("choices").onchange = (event) => {
      select(candidates[event.target.value], candidates);
    };
  }
}

/** What lies under a point: what is drawn on top first, but a stay before the tracks that end in its middle. */
function itemsAt(point) {
  const hits = shown.items.filter((item) => item.layers.some((layer) => layer._containsPoint(point))).reverse();
  const isCentral = (item) =>
    item.kind === "stay" && map.latLngToLayerPoint(item.layers[0].getLatLng()).distanceTo(point) < 6;
  const rank = (item) => (isCentral(item) ? 0 : item.kind === "track" ? 1 : 2);
  return hits.sort((a, b) => rank(a) - rank(b));
}
map.on("click", ({ layerPoint }) => {
  const found = itemsAt(layerPoint);
  select(found[0] ?? null, found);
});

/** Go to what begins before or after what is selected. */
function go(by) {
  if (!shown.items.length) return;
  const at = shown.items.indexOf(shown.selected);
  const next = at < 0 ? (by > 0 ? 0 : shown.items.length - 1) : at + by;
  const item = shown.items[Math.min(Math.max(next, 0), shown.items.length - 1)];
  select(item);
  if (!map.getBounds().pad(-0.15).contains(item.bounds)) fit([item]);
}

const isNarrow = () => map.getSize().x <= 640;

/** Move the map so that items are in the part of it that nothing covers. */
function fit(what, animate = true) {
  const bounds = what.reduce((all, item) => all.extend(item.bounds), L.latLngBounds([]));
  if (!bounds.isValid()) return;
  const above = (id) => map.getSize().y - one(id).offsetTop + 24, isOpen = !one("details").hidden;
  map.fitBounds(bounds, {
    paddingTopLeft: isNarrow() ? [24, one("sums").getBoundingClientRect().bottom + 24] : [300, 24],
    paddingBottomRight: isNarrow() ? [24, above(isOpen ? "details" : "time")] : [isOpen ? 380 : 24, above("time")],
    maxZoom: 16,
    animate,
  });
}

// Time ----------------------------------------------------------------------------------------------------------------

const metresOf = new Float64Array(count);
for (const { start, end, distance_m } of tracks) {
  const [from, to] = [start, end].map((seconds) => Math.floor((seconds - zero) / step));
  for (let n = from; n <= to; n++) metresOf[n] += distance_m / (to - from + 1);
}
const most = metresOf.reduce((a, b) => Math.max(a, b), 1);
const height = (metres) => Math.log1p(metres / 1000) / Math.log1p(most / 1000);

/** Kilometres by time, as bars; a flight is no reason to make all the others invisible. */
function drawBars() {
  const bars = one("bars"), scale = window.devicePixelRatio;
  const [width, all] = [bars.clientWidth, bars.clientHeight];
  if (bars.width !== Math.round(width * scale)) [bars.width, bars.height] = [width * scale, all * scale].map(Math.round);
  const context = bars.getContext("2d"), wide = width / count;
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, all);
  const colours = [colour("edge"), colour("accent")];
  for (let n = 0; n < count; n++) {
    const high = height(metresOf[n]) * (all - 4);
    context.fillStyle = colours[+(n >= shown.from && n < shown.to)];
    context.fillRect(n * wide, all - high, Math.max(wide - 1, wide * 0.7), high);
  }
  context.fillStyle = colours[0];
  context.fillRect(0, all - 1, width, 1);
  context.fillStyle = colours[1];
  context.fillRect(shown.from * wide, all - 2, (shown.to - shown.from) * wide, 2);
}

function setSpan(from, to) {
  [shown.from, shown.to] = [from, to];
  [one("from").value, one("to").value] = [from, to];
  // Where both handles are at an edge, the one that can be moved away from it lies on top.
  one("from").style.zIndex = +(from > count / 2);
  showSoon();
}
for (const name of ["from", "to"]) {
  const input = one(name);
  input.max = count;
  input.value = shown[name];
  input.addEventListener("input", () => {
    pause();
    const value = +input.value;
    if (name === "from") setSpan(Math.min(value, shown.to - 1), shown.to);
    else setSpan(shown.from, Math.max(value, shown.from + 1));
  });
}

/** Drag the whole span; who begins beside it moves it there first. */
one("slider").addEventListener("pointerdown", (event) => {
  if (event.target.tagName === "INPUT") return;
  pause();
  const { left, width } = one("bars").getBoundingClientRect();
  const at = (x) => ((x - left) / width) * count, wide = shown.to - shown.from;
  const move = (x, offset) => {
    const from = Math.round(Math.min(Math.max(at(x) - offset, 0), count - wide));
    setSpan(from, from + wide);
  };
  const inside = at(event.clientX) >= shown.from && at(event.clientX) <= shown.to;
  const offset = inside ? at(event.clientX) - shown.from : wide / 2;
  move(event.clientX, offset);
  const follow = ({ clientX }) => move(clientX, offset);
  one("slider").setPointerCapture(event.pointerId);
  one("slider").addEventListener("pointermove", follow);
  one("slider").addEventListener("lostpointercapture", () => {
    one("slider").removeEventListener("pointermove", follow);
  }, { once: true });
});

let playing = 0;
function pause() {
  clearInterval(playing);
  playing = 0;
  one("play").setAttribute("aria-pressed", "false");
}
function play() {
  const all = shown.from === 0 && shown.to === count, wide = all ? Math.ceil(count / 12) : shown.to - shown.from;
  if (all || shown.to === count) setSpan(0, wide);
  const by = Math.max(1, Math.round(count / 200));
  playing = setInterval(() => {
    const from = Math.min(shown.from + by, count - wide);
    setSpan(from, from + wide);
    if (from === count - wide) pause();
  }, 100);
  one("play").setAttribute("aria-pressed", "true");
}

// Begin ---------------------------------------------------------------------------------------------------------------

one("who").textContent = [...new Set(about.devices.map(([user]) => user))].join(", ");
for (const sized of [0.5, 8, 48]) {
  const disc = element("i", {}), wide = `${2 * radius({ duration_s: sized * 3600 })}px`;
  Object.assign(disc.style, { width: wide, height: wide });
  one("sizes").append(element("span", {}, disc, sized < 1 ? `${sized * 60} min` : `${sized} h`));
}
for (const input of document.querySelectorAll("[name=colour]")) {
  input.addEventListener("change", () => {
    shown.byDay = input.value === "day";
    show();
  });
}
one("with-stays").addEventListener("change", show);
one("play").addEventListener("click", () => (playing ? pause() : play()));
one("earlier").addEventListener("click", () => go(-1));
one("later").addEventListener("click", () => go(1));
one("out").addEventListener("click", () => map.zoomOut());
one("in").addEventListener("click", () => map.zoomIn());
one("all").addEventListener("click", () => fit(shown.items));
one("close").addEventListener("click", () => select(null));
one("fold").addEventListener("click", () => {
  const open = one("fold").getAttribute("aria-expanded") === "false";
  one("fold").setAttribute("aria-expanded", open);
  one("more").hidden = !open;
});
document.addEventListener("keydown", (event) => event.key === "Escape" && select(null));
window.addEventListener("resize", drawBars);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readTheme();
  drawGrid();
  show();
});

readTheme();
if (isNarrow()) one("fold").click();
fit(items, false);
show();
drawGrid();
map.on("moveend", drawGrid);
map.on("zoomend", paint);
