/**
 * A strict reader of Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/, version
 * 0.0.4): what a scraper might forgive is thrown here.
 */

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

interface Family {
  type: string;
  samples: Sample[];
}

const metricName = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const labelText = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)/y;
const numberText = /^([+-]Inf|NaN|-?\d+(\.\d+)?(e[+-]?\d+)?)$/;

export class Exposition {
  readonly families = new Map<string, Family>();

  /** @throws for what breaks the format, or the rules of counters and histograms */
  constructor(text: string) {
    if (!text.endsWith("\n")) throw new Error("the last line has no end");
    let current: (Family & { name: string }) | null = null;
    let helped: string | null = null;
    for (const line of text.slice(0, -1).split("\n")) {
      const [, kind, name = "", rest = ""] = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? [];
      if (kind === "HELP") {
        if (this.families.has(name) || !metricName.test(name))
          throw new Error(`a second or bad family: ${line}`);
        helped = name;
      } else if (kind === "TYPE") {
        if (helped !== name) throw new Error(`no help before it: ${line}`);
        if (!["counter", "gauge", "histogram"].includes(rest)) throw new Error(`an unknown type: ${line}`);
        current = { name, type: rest, samples: [] };
        this.families.set(name, current);
      } else if (line !== "") {
        if (current === null) throw new Error(`outside of a family: ${line}`);
        current.samples.push(sampleOf(line, current));
      }
    }
    for (const [name, family] of this.families) check(name, family);
  }

  /** All samples with this name and these labels, among others. */
  samples(name: string, labels: Record<string, string> = {}): Sample[] {
    return [...this.families.values()]
      .flatMap(({ samples }) => samples)
      .filter(
        (sample) =>
          sample.name === name &&
          Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
      );
  }

  /** The sum of those; 0 where there are none. */
  sum(name: string, labels: Record<string, string> = {}): number {
    return this.samples(name, labels).reduce((sum, { value }) => sum + value, 0);
  }

  /** The values of a label, in order. */
  values(name: string, label: string): string[] {
    return [...new Set(this.samples(name).map(({ labels }) => labels[label] ?? ""))].toSorted();
  }
}

function sampleOf(line: string, { name: family, type }: { name: string; type: string }): Sample {
  const [, name = "", , inner = "", value = ""] = /^([^{ ]+)(\{(.*)\})? (\S+)$/.exec(line) ?? [];
  const suffixes = type === "histogram" ? ["_bucket", "_sum", "_count"] : [""];
  if (!suffixes.some((suffix) => name === family + suffix)) throw new Error(`not of ${family}: ${line}`);
  if (!numberText.test(value)) throw new Error(`no number: ${line}`);
  const labels: Record<string, string> = {};
  labelText.lastIndex = 0;
  while (labelText.lastIndex < inner.length) {
    const [, key, text] = labelText.exec(inner) ?? [];
    if (key === undefined || text === undefined || key in labels) throw new Error(`bad labels: ${line}`);
    labels[key] = text.replace(/\\(.)/g, (_, escaped) => (escaped === "n" ? "\n" : escaped));
  }
  return { name, labels, value: Number(value.replace("Inf", "Infinity")) };
}

function check(name: string, { type, samples }: Family): void {
  const series = new Set(
    samples.map((sample) => JSON.stringify([sample.name, Object.entries(sample.labels).sort()])),
  );
  if (series.size < samples.length) throw new Error(`${name} has a series twice`);
  if (type === "counter") {
    if (!name.endsWith("_total")) throw new Error(`the counter ${name} isn't named _total`);
    if (samples.some(({ value }) => !(value >= 0))) throw new Error(`${name} is below zero`);
  } else if (name.endsWith("_total")) throw new Error(`${name} is no counter`);
  if (type !== "histogram") return;
  const withoutBound = ({ labels: { le: _, ...labels } }: Sample): string => JSON.stringify(labels);
  for (const [labels, own] of Map.groupBy(samples, withoutBound)) {
    const buckets = own.filter((sample) => sample.name === `${name}_bucket`);
    const bounds = buckets.map(({ labels }) => Number(labels.le!.replace("Inf", "Infinity")));
    const counts = buckets.map(({ value }) => value);
    const total = own.find((sample) => sample.name === `${name}_count`)?.value;
    const isAscending = (values: number[], strictly: boolean): boolean =>
      values.every(
        (value, index) =>
          index === 0 || value > values[index - 1]! || (!strictly && value === values[index - 1]),
      );
    if (
      !isAscending(bounds, true) ||
      bounds.at(-1) !== Number.POSITIVE_INFINITY ||
      !isAscending(counts, false)
    ) {
      throw new Error(`the buckets of ${name} ${labels} don't ascend to +Inf`);
    }
    if (counts.at(-1) !== total || !own.some((sample) => sample.name === `${name}_sum`)) {
      throw new Error(`count and sum of ${name} ${labels} don't fit`);
    }
  }
}
