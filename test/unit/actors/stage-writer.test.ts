import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  decideStage,
  type StageState,
  startStage,
} from '../../../src/actors/stage-writer/behavior.ts';
import type { Span, StageEffect, StageMessage } from '../../../src/actors/stage-writer/messages.ts';

type Derived = { readonly upTo: number };

test('ST1 to ST3 every upstream version is committed exactly once and in order, whatever the interleaving', () => {
  const step = fc.constantFrom('wake', 'head', 'derive', 'commit');
  fc.assert(
    fc.property(fc.array(fc.tuple(step, fc.nat(4)), { maxLength: 120 }), (steps) => {
      const first = startStage<Derived>();
      let state: StageState<Derived> = first.state;
      const pending: StageEffect<Derived>[] = [...first.effects];
      let upstream = 3;
      let committed = 0;
      let announced = -1;
      const tell = (message: StageMessage<Derived>): void => {
        const decision = decideStage(state, message);
        state = decision.state;
        pending.push(...decision.effects);
      };
      const take = <Kind extends StageEffect<Derived>['kind']>(kind: Kind) => {
        const at = pending.findIndex((effect) => effect.kind === kind);
        if (at < 0) return undefined;
        return pending.splice(at, 1)[0] as Extract<StageEffect<Derived>, { kind: Kind }>;
      };
      tell({ kind: 'opened', covered: 0, head: upstream });
      for (const [kind, amount] of steps) {
        upstream += amount;
        if (kind === 'wake') tell({ kind: 'wake' });
        if (kind === 'head' && take('look')) tell({ kind: 'head', head: upstream });
        if (kind === 'derive') {
          const effect = take('derive');
          if (!effect) continue;
          // The shell may cover less than asked for.
          const upTo = Math.min(effect.span.upTo, effect.span.after + 1 + amount);
          tell({ kind: 'derived', span: { ...effect.span, upTo }, derived: { upTo } });
        }
        if (kind === 'commit') {
          const effect = take('commit');
          if (!effect) continue;
          const span: Span = effect.span;
          assert.equal(span.after, committed, 'a span starts where the last one ended');
          assert.equal(effect.derived.upTo, span.upTo);
          committed = span.upTo;
          tell({ kind: 'committed', span });
        }
        for (let effect = take('announce'); effect; effect = take('announce')) {
          assert.ok(effect.covered >= announced && effect.covered === committed);
          announced = effect.covered;
        }
        assert.ok(pending.filter((effect) => effect.kind === 'derive').length <= 1);
        assert.ok(pending.filter((effect) => effect.kind === 'commit').length <= 1);
      }
    }),
  );
});
