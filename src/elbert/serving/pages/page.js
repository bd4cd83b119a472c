// The page: sliders choose a policy, the server answers with it, and what it says is drawn.
import { ask, info, metrics, Refused, useKey } from "./api.js";
import { $, answers, curve, element, percent, reading, spark, strip, verdict } from "./draw.js";

const TYPING = 250; // milliseconds after the last key
const EVERY = 2000; // milliseconds between two looks at the metrics
const PLACES = 60; // looks that the line of throughput holds
const POINTS = 11; // settings on the curve

let server = null;
let model = null;
let policy = null;
let full = []; // labels at full depth, of the texts
let points = [];

const tell = (error) => {
  const locked = error instanceof Refused && error.status === 401;
  $("unlock").hidden = !locked;
  $("error").hidden = false;
  $("error").textContent = error instanceof Refused ? error.message : "The server does not answer.";
};
const calmed = () => ($("error").hidden = true);
const guarded = (run) => async (...given) => {
  try {
    await run(...given);
  } catch (error) {
    tell(error);
  }
};
const later = (run) => {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(run, TYPING);
  };
};

const texts = () => $("texts").value.split("\n").map((line) => line.trim()).filter(Boolean).slice(0, server.max_client_batch_size);
const body = (inputs, parameters) => ({ model: model.model_id, inputs, parameters });
const level = () => model.levels[Number($("level").value)];

// One text.
const traceText = guarded(async () => {
  const text = $("text").value;
  if (!text.trim()) return;
  const trace = await ask("trace", "/trace", body(text, { policy }));
  if (!trace) return;
  calmed();
  verdict(trace);
  strip(trace);
  reading(trace);
});

// Several texts: what they answer now, and the curve of all settings.
const predicted = (kind, lines, chosen) => ask(kind, "/predict", body(lines, { policy: chosen, top_k: 1 }));
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / Math.max(values.length, 1);
const point = (found) => {
  const known = found.map((each, place) => [each[0], full[place]]).filter(([first]) => first);
  return [mean(known.map(([first]) => first.exit_layer)), mean(known.map(([first, label]) => Number(first.label === label)))];
};
const answerTexts = guarded(async () => {
  const lines = texts();
  if (!lines.length || full.length !== lines.length) return;
  const found = await predicted("now", lines, policy);
  if (!found) return;
  const now = point(found);
  curve(model.layers, points, now);
  answers(lines, found, model.names);
  $("curve-says").textContent = `Orange: here texts run ${now[0].toFixed(1)} of ${model.layers} layers and ${percent(now[1])} get the label of full depth. Blue: the other thresholds.`;
});
const sweepTexts = guarded(async () => {
  const lines = texts();
  if (!lines.length) return;
  const deep = await predicted("full", lines, { name: "full" });
  if (!deep) return;
  [full, points] = [deep.map((each) => each[0]?.label), []];
  await answerTexts();
  const { name, values } = level().dial ?? { values: [] };
  const chosen = values.filter((_, at) => values.length <= POINTS || Math.round((at * (POINTS - 1)) / (values.length - 1)) !== Math.round(((at - 1) * (POINTS - 1)) / (values.length - 1)));
  const met = [];
  for (const value of chosen) {
    const found = await predicted("sweep", lines, { ...level().policy, [name]: value });
    if (!found) return;
    met.push(point(found));
  }
  points = met.sort((one, other) => one[0] - other[0] || one[1] - other[1]);
  await answerTexts();
});

// Sliders.
const number = (value) => String(Number(Number(value).toPrecision(3)));
const showLevel = () => {
  const { name, metric, mean_exit_layer: depth, score, full_depth_score: deep } = level();
  const measured = depth === null ? "" : `: ${depth.toFixed(1)} layers in the mean` + (score === null ? "" : `, ${metric} ${score.toFixed(3)} (${deep.toFixed(3)} at full depth)`) + ", as calibrated";
  $("level-says").textContent = name + measured;
  $("level").setAttribute("aria-valuetext", name);
};
const showDial = (value) => {
  $("dial-says").textContent = number(value);
  $("dial").setAttribute("aria-valuetext", number(value));
};
const useLevel = () => {
  const { dial } = level();
  policy = level().policy;
  showLevel();
  $("dial-field").hidden = !dial;
  if (dial) {
    const own = policy[dial.name];
    const distances = dial.values.map((value) => Math.abs(value - own));
    $("dial-name").textContent = dial.name[0].toUpperCase() + dial.name.slice(1);
    $("dial").max = dial.values.length - 1;
    $("dial").value = distances.indexOf(Math.min(...distances));
    showDial(own);
  }
  traceText();
  sweepTexts();
};
const useDial = () => {
  const { dial } = level();
  const value = dial.values[Number($("dial").value)];
  policy = { ...level().policy, [dial.name]: value };
  showDial(value);
  traceText();
  answerTexts();
};
const useModel = () => {
  model = server.models[$("model").selectedIndex];
  model.names = Object.keys(model.model_type.classifier.label2id);
  $("about").textContent = `${model.model_id}: ${model.layers} layers, ${model.backend} in ${model.model_dtype} on ${model.device}; version ${server.version}.`;
  $("level").max = model.levels.length - 1;
  $("level").disabled = model.levels.length < 2;
  $("level").value = model.level;
  useLevel();
};

// The server now: what the counters grew by since the last look.
const rates = [];
let last = null;
const look = guarded(async () => {
  if (document.hidden) return;
  const found = await metrics();
  const sum = (name) => found.filter(([each, labels]) => each === name && labels.includes(`model="${model.model_id}"`)).reduce((total, each) => total + each[2], 0);
  const now = { at: performance.now(), texts: sum("elbert_texts_total"), run: sum("elbert_layers_run_total"), saved: sum("elbert_layers_saved_total") };
  const before = last && last.texts <= now.texts ? last : now;
  const [seconds, count] = [(now.at - before.at) / 1000, now.texts - before.texts];
  const since = count ? before : { texts: 0, run: 0 };
  rates.push(seconds ? count / seconds : 0);
  if (rates.length > PLACES) rates.shift();
  $("rate").textContent = rates.at(-1).toFixed(rates.at(-1) < 10 ? 1 : 0);
  $("depth").textContent = now.texts ? ((now.run - since.run) / (now.texts - since.texts)).toFixed(1) : "–";
  $("saved").textContent = now.run + now.saved ? percent(now.saved / (now.run + now.saved)) : "–";
  $("flight").textContent = sum("elbert_rows_in_flight");
  spark(rates, PLACES);
  last = now;
});

const begin = guarded(async () => {
  server = await info();
  calmed();
  $("unlock").hidden = true;
  $("model").replaceChildren(...server.models.map((each) => element("option", each.model_id)));
  $("choice").hidden = server.models.length < 2;
  useModel();
  await look();
  if (!begin.looking) begin.looking = setInterval(look, EVERY);
});

$("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey($("key").value);
  begin();
});
$("model").addEventListener("change", useModel);
$("level").addEventListener("input", useLevel);
$("dial").addEventListener("input", useDial);
$("text").addEventListener("input", later(traceText));
$("texts").addEventListener("input", later(sweepTexts));
begin();
