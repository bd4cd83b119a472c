// What the page shows, made of elements; nothing of a text is ever read as HTML.
const SVG = "http://www.w3.org/2000/svg";
const TONES = 6;

export const $ = (id) => document.getElementById(id);
export const percent = (value) => (value < 0.0005 && value > 0 ? "<0.1" : (100 * value).toFixed(1)) + " %";

export const element = (tag, text = "", className = "", properties = {}) => {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  for (const [name, value] of Object.entries(properties)) made.style.setProperty(name, value);
  return made;
};

const shape = (tag, attributes, text = "") => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
};

export const tone = (place) => "tone" + Math.min(Math.max(place, 0), TONES - 1);

// What an exit of a trace said: {label, score, place}; score is null where a value is the answer.
export const said = (trace, probs) => {
  if (trace.problem_type === "regression") return { label: probs[0].toFixed(3), score: null, place: 0 };
  const best = probs.indexOf(Math.max(...probs));
  if (trace.problem_type === "single_label_classification")
    return { label: trace.labels[best], score: probs[best], place: best };
  const chosen = trace.labels.filter((_, place) => probs[place] >= 0.5);
  return { label: chosen.join(", ") || "none", score: probs[best], place: chosen.length ? best : TONES - 1 };
};

// The runs of words that weighed most in what they said, with their weights.
const runs = (words) =>
  words.grams.length ? " Most weight: " + words.grams.slice(0, 5).map(([run, weight]) => `“${run}” ${weight.toFixed(2)}`).join(", ") + "." : "";

export const verdict = (trace) => {
  const answer = said(trace, trace.exit_layer ? trace.probs[trace.exit_layer - 1] : trace.layer_0.probs);
  const where = trace.exit_layer ? `, after layer ${trace.exit_layer} of ${trace.layers}` : ", by its words alone, before the first layer";
  $("verdict").className = "verdict " + tone(answer.place);
  $("verdict").replaceChildren(element("b", answer.label), (answer.score === null ? "" : ` (${percent(answer.score)})`) + where);
  const words = trace.layer_0;
  $("zero").hidden = !words;
  $("zero").textContent = words ? `Words alone, ${words.reason}.` + (words.at_exits ? " Every layer's answer contains them." : "") + runs(words) : "";
};

export const strip = (trace) => {
  const exit = trace.exit_layer;
  $("strip").setAttribute("aria-label", `Leaves at layer ${exit} of ${trace.layers}`);
  $("strip").replaceChildren(...trace.probs.map((probs, at) => {
    const answer = said(trace, probs);
    const where = at + 1 === exit ? " out" : at + 1 > exit ? " beyond" : "";
    const cell = element("div", "", "cell " + tone(answer.place) + where, { "--p": answer.score ?? 1 });
    const value = answer.score === null ? answer.label : (100 * answer.score).toFixed(0) + " %";
    cell.title = `layer ${at + 1}: ${answer.label}`;
    cell.append(element("b", at + 1), element("i", value), element("span"));
    return cell;
  }));
  $("reasons").replaceChildren(...trace.reasons.map((line, at) => element("li", line, at + 1 === exit ? "out" : "")));
};

// The text as it was typed, each word shaded by its share of the attention in the layer where the text leaves, none of
// them before the first layer; grey is what nobody read.
export const reading = (trace) => {
  const given = trace.attention[trace.exit_layer - 1] ?? trace.tokens.map(() => 0);
  const words = trace.words.filter((word) => word.half !== null)
    .map((word) => [word.text, word.tokens.reduce((sum, token) => sum + given[token], 0)]);
  const most = Math.max(...words.map(([, share]) => share), 1e-9);
  let read = 0;
  const pieces = words.flatMap(([text, share]) => {
    const start = trace.text.indexOf(text, read);
    const between = start < 0 ? "" : trace.text.slice(read, start);
    read = start < 0 ? read : start + text.length;
    return [between, element("span", text, "", { "--a": share / most })];
  });
  const end = Math.max(read, [...trace.text].slice(0, trace.layer_0?.end ?? 0).join("").length); // counted in characters
  $("reading").replaceChildren(...pieces, trace.text.slice(read, end), element("span", trace.text.slice(end), "cut"));
};

// The lines below the curve: each text with its label and how deep it went.
export const answers = (texts, found, tones) => $("answers").replaceChildren(...texts.map((text, place) => {
  const item = element("li");
  const first = found[place][0];
  if (!first) {
    item.append(element("bdi", text), element("b", found[place].error, "error"));
    return item;
  }
  item.className = tone(tones.indexOf(first.label));
  const bar = element("div", "", "bar", { "--p": first.exit_layer / first.layers });
  bar.append(element("i"), element("span", `${first.exit_layer} of ${first.layers}`));
  item.append(element("bdi", text), element("b", first.label), bar);
  return item;
}));

// Points are [mean exit layer, share that answers as full depth does]; `now` is where the sliders stand.
export const curve = (layers, points, now) => {
  const [left, top, right, bottom] = [46, 12, 346, 196];
  const lowest = Math.floor(Math.min(0.9, ...points.map((each) => each[1]), now[1]) * 10) / 10;
  const x = (depth) => left + ((right - left) * depth) / layers;
  const y = (share) => bottom - ((bottom - top) * (share - lowest)) / (1 - lowest);
  const marks = [lowest, (1 + lowest) / 2, 1].flatMap((share) => [
    shape("line", { class: "grid", x1: left, x2: right, y1: y(share), y2: y(share) }),
    shape("text", { x: left - 6, y: y(share) + 4, "text-anchor": "end" }, (100 * share).toFixed(0) + " %"),
  ]);
  const ticks = [0, layers / 2, layers].map((depth) => shape("text", { x: x(depth), y: bottom + 16, "text-anchor": "middle" }, depth));
  const path = points.map(([depth, share], at) => `${at ? "L" : "M"}${x(depth).toFixed(1)} ${y(share).toFixed(1)}`).join("");
  $("curve").replaceChildren(
    ...marks, ...ticks,
    shape("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    shape("text", { x: (left + right) / 2, y: bottom + 34, "text-anchor": "middle" }, "mean exit layer"),
    ...(path ? [shape("path", { class: "line", d: path })] : []),
    ...points.map(([depth, share]) => shape("circle", { class: "dot", r: 2.5, cx: x(depth), cy: y(share) })),
    shape("line", { class: "drop", x1: x(now[0]), x2: x(now[0]), y1: y(now[1]), y2: bottom }),
    shape("circle", { class: "now", r: 7, cx: x(now[0]), cy: y(now[1]) }),
  );
};

export const spark = (rates, places) => {
  const most = Math.max(1, ...rates);
  const at = rates.map((rate, place) => `${((place + places - rates.length) * 600) / (places - 1)} ${58 - (54 * rate) / most}`);
  $("spark").replaceChildren(shape("path", { class: "line", d: at.length > 1 ? "M" + at.join("L") : "" }));
};
