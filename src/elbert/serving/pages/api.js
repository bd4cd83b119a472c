// What the page asks of its server. A newer question of a kind cancels the one before it.
let key = "";
const running = new Map();

export class Refused extends Error {
  constructor(status, line) {
    super(line);
    this.status = status;
  }
}

export const useKey = (given) => (key = given);

const fetched = async (path, options = {}) => {
  const headers = { ...options.headers, ...(key && { authorization: "Bearer " + key }) };
  const said = await fetch(path, { ...options, headers });
  if (!said.ok) throw new Refused(said.status, (await said.json()).error);
  return said;
};

export const info = async () => (await fetched("/info")).json();

// Metrics as [name, labels, value], without comments and buckets.
export const metrics = async () => {
  const lines = (await (await fetched("/metrics")).text()).split("\n");
  return lines.filter((line) => line && !line.startsWith("#") && !line.includes("_bucket{")).map((line) => {
    const space = line.lastIndexOf(" ");
    return [line.slice(0, space).split("{")[0], line.slice(0, space), Number(line.slice(space))];
  });
};

// Returns null where a newer question of the same kind came before the answer.
export const ask = async (kind, path, body) => {
  running.get(kind)?.abort();
  const controller = new AbortController();
  running.set(kind, controller);
  try {
    const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    const said = await (await fetched(path, { ...options, signal: controller.signal })).json();
    return running.get(kind) === controller ? said : null;
  } catch (error) {
    if (error.name === "AbortError" || running.get(kind) !== controller) return null;
    throw error;
  }
};
