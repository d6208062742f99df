/**
 * Pseudo-random numbers that depend on a seed only. Pure; not for secrets.
 * Source: sfc32 of PractRand (C. Doty-Humphrey); Vose's alias method for weighted choice.
 */

/** A stream of random numbers. */
export class SeededRandom {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;
  #spareNormal: number | undefined;

  /** @param seed any safe integer */
  constructor(seed: number) {
    this.#a = 0;
    this.#b = seed | 0;
    this.#c = Math.floor(seed / 2 ** 32) | 0;
    for (let i = 0; i < 16; i++) this.uint32();
  }

  /** In [0, 2^32). */
  uint32(): number {
    const result = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (this.#c << 21) | (this.#c >>> 11);
    this.#c = (this.#c + result) | 0;
    return result >>> 0;
  }

  /** In [0, 1). */
  unit(): number {
    return this.uint32() * 2 ** -32;
  }

  /** A whole number in [0, limit). @param limit at most 2^32 */
  below(limit: number): number {
    return Math.floor(this.unit() * limit);
  }

  /** Standard normal (Marsaglia's polar method). */
  normal(): number {
    if (this.#spareNormal !== undefined) {
      const spare = this.#spareNormal;
      this.#spareNormal = undefined;
      return spare;
    }
    for (;;) {
      const x = 2 * this.unit() - 1;
      const y = 2 * this.unit() - 1;
      const square = x * x + y * y;
      if (square > 0 && square < 1) {
        const scale = Math.sqrt((-2 * Math.log(square)) / square);
        this.#spareNormal = y * scale;
        return x * scale;
      }
    }
  }

  logNormal(mean: number, deviation: number): number {
    return Math.exp(mean + deviation * this.normal());
  }
}

/** Chooses an index with a probability in proportion to its weight, in constant time. */
export class WeightedChoice {
  readonly #threshold: Float64Array;
  readonly #alias: Int32Array;

  constructor(weights: readonly number[]) {
    const count = weights.length;
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const scaled = weights.map((weight) => (weight * count) / total);
    this.#threshold = new Float64Array(count).fill(1);
    this.#alias = Int32Array.from({ length: count }, (_, i) => i);
    const small: number[] = [];
    const large: number[] = [];
    scaled.forEach((weight, i) => (weight < 1 ? small : large).push(i));
    while (small.length > 0 && large.length > 0) {
      const low = small.pop()!;
      const high = large.pop()!;
      this.#threshold[low] = scaled[low]!;
      this.#alias[low] = high;
      scaled[high] = scaled[high]! + scaled[low]! - 1;
      (scaled[high]! < 1 ? small : large).push(high);
    }
  }

  choose(random: SeededRandom): number {
    const at = random.unit() * this.#threshold.length;
    const index = Math.floor(at);
    return at - index < this.#threshold[index]! ? index : this.#alias[index]!;
  }
}

/** Weights of Zipf's law: rank r has 1 / r^exponent. */
export function zipfWeights(count: number, exponent: number): number[] {
  return Array.from({ length: count }, (_, i) => 1 / (i + 1) ** exponent);
}
