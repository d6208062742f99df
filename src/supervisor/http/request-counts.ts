/** Requests that were answered, by method, route pattern and status; the patterns bound their number. */
import type { RequestCount } from './pipeline-metrics.ts';

export class RequestCounts {
  readonly #counts = new Map<
    string,
    { labels: RequestCount['labels']; count: number; seconds: number }
  >();

  add(
    request: { readonly method: string; readonly route: string; readonly status: number },
    seconds: number,
  ): void {
    const { method, route, status } = request;
    const key = `${method} ${route} ${status}`;
    const known = this.#counts.get(key);
    if (known) {
      known.count += 1;
      known.seconds += seconds;
    } else {
      const labels = { method, route, status: String(status) };
      this.#counts.set(key, { labels, count: 1, seconds });
    }
  }

  all(): readonly RequestCount[] {
    return [...this.#counts.values()];
  }
}
