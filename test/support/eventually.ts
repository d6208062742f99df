/** Waiting in tests: look again until it holds, never sleep and hope. */

/**
 * Calls `look` until it neither throws nor answers false.
 * @returns what it answered
 * @throws what `look` threw last, when the time is over
 */
export async function eventually<T>(
  look: () => T | Promise<T>,
  options: { readonly withinMs?: number } = {},
): Promise<T> {
  const deadline = performance.now() + (options.withinMs ?? 60_000);
  for (;;) {
    try {
      const seen = await look();
      if (seen !== false) return seen;
      throw new Error('it did not come true');
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
    await new Promise((wake) => setTimeout(wake, 20));
  }
}
