/** `tidemark rebalance`: spread the units over the workers, or say what that would move. */
import { rebalancedSchema, type Rebalanced } from '../supervisor/http/api-schemas.ts';
import { defineCommand, EXIT, type OptionSpec, toggle, usageError } from './command.ts';
import { callSupervisor, urlOption } from './supervisor-client.ts';
import type { Style } from './terminal.ts';
import { textTable } from './text-table.ts';

type Strategy = Rebalanced['strategy'];

const strategyOption: OptionSpec<Strategy> = {
  value: 'S',
  summary: 'sticky moves as little as balance allows; even spreads lag from scratch',
  fallback: 'sticky',
  repeatable: false,
  parse: (given, _before, name) => {
    if (given === 'sticky' || given === 'even') return given;
    throw usageError(`${name} takes sticky or even; "${given}" is neither.`);
  },
};

export const rebalanceCommand = defineCommand({
  name: 'rebalance',
  summary: 'spread the units over the workers',
  options: {
    strategy: strategyOption,
    dryRun: toggle('only say what would move'),
    url: urlOption,
  },
  example: 'tidemark rebalance -c pipeline.yaml --strategy even --dry-run',
  run: async (context, { options }) => {
    const { strategy, dryRun, url } = options;
    const rebalanced = await callSupervisor(context, url, {
      method: 'POST',
      path: '/v1/rebalance',
      body: { strategy, dryRun },
      response: rebalancedSchema,
    });
    await context.terminal.result(rebalanced, (style) => render(rebalanced, style));
    return EXIT.ok;
  },
});

function render({ outcome, moves }: Rebalanced, style: Style): string {
  if (moves.length === 0) return 'The units are in balance; nothing moves.';
  const verb = outcome === 'planned' ? 'would move' : 'move';
  const table = textTable(
    [{ title: 'unit' }, { title: 'from' }, { title: 'to' }],
    moves.map(({ unit, from, to }) => [unit, from ?? '-', to ?? '-']),
    style.bold,
  );
  const requested = outcome === 'requested' ? '\nThe leading supervisor was asked to do it.' : '';
  return `${moves.length} ${moves.length === 1 ? 'unit' : 'units'} ${verb}:\n${table}${requested}`;
}
