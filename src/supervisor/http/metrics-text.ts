/**
 * Numbers in the text format that Prometheus reads. Pure. Values come from elsewhere: nothing here
 * counts, so a client library that owns its counters would only be in the way.
 * Source: Prometheus text exposition format, version 0.0.4.
 */

export const METRICS_MEDIA_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

export type Labels = Readonly<Record<string, string>>;

/** One number of a family. */
export interface MetricSample {
  /** After the family's name: `_bucket`, `_sum`, `_count`. */
  readonly suffix?: '_bucket' | '_sum' | '_count';
  readonly labels?: Labels;
  readonly value: number;
}

/** Samples that share name, type and meaning. */
export interface MetricFamily {
  /** Ends with its base unit: `_seconds`, `_bytes`, `_total`. */
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly samples: readonly MetricSample[];
}

/** The exposition of all families; a family without samples is left out. */
export function metricsText(families: readonly MetricFamily[]): string {
  return families
    .filter(({ samples }) => samples.length > 0)
    .map(({ name, type, help, samples }) => {
      const lines = samples.map(
        ({ suffix = '', labels = {}, value }) =>
          `${name}${suffix}${labelsText(labels)} ${numberText(value)}\n`,
      );
      return `# HELP ${name} ${escaped(help)}\n# TYPE ${name} ${type}\n${lines.join('')}`;
    })
    .join('');
}

/** The samples of one histogram. @param buckets cumulative counts by upper bound, ascending */
export function histogramSamples(
  labels: Labels,
  histogram: {
    readonly buckets: readonly { readonly seconds: number; readonly count: number }[];
    readonly count: number;
    readonly sumSeconds: number;
  },
): MetricSample[] {
  return [
    ...histogram.buckets.map(
      ({ seconds, count }): MetricSample => ({
        suffix: '_bucket',
        labels: { ...labels, le: numberText(seconds) },
        value: count,
      }),
    ),
    { suffix: '_bucket', labels: { ...labels, le: '+Inf' }, value: histogram.count },
    { suffix: '_sum', labels, value: histogram.sumSeconds },
    { suffix: '_count', labels, value: histogram.count },
  ];
}

function labelsText(labels: Labels): string {
  const entries = Object.entries(labels);
  if (entries.length === 0) return '';
  return `{${entries.map(([name, value]) => `${name}="${escaped(value).replaceAll('"', '\\"')}"`).join(',')}}`;
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function numberText(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf';
  if (value === Number.NEGATIVE_INFINITY) return '-Inf';
  return String(value);
}
