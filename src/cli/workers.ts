/** `tidemark workers`: the live processes of a pipeline and what is placed on them. */
import { workersSchema, type Workers } from '../supervisor/http/api-schemas.ts';
import { defineCommand, EXIT } from './command.ts';
import { callSupervisor, urlOption } from './supervisor-client.ts';
import type { Style } from './terminal.ts';
import { byteText, textTable } from './text-table.ts';

export const workersCommand = defineCommand({
  name: 'workers',
  summary: 'list live workers and what is placed on them',
  options: { url: urlOption },
  example: 'tidemark workers -c pipeline.yaml',
  run: async (context, { options }) => {
    const workers = await callSupervisor(context, options.url, {
      method: 'GET',
      path: '/v1/workers',
      response: workersSchema,
    });
    await context.terminal.result(workers, (style) => render(workers, style));
    return EXIT.ok;
  },
});

function render({ workers }: Workers, style: Style): string {
  if (workers.length === 0) return style.bad('No worker is alive.');
  return textTable(
    [
      { title: 'worker' },
      { title: 'state' },
      { title: 'partitions' },
      { title: 'pinned' },
      { title: 'writes' },
      { title: 'memory', align: 'right' },
      { title: 'restarts', align: 'right' },
      { title: 'process' },
      { title: 'since' },
    ],
    workers.map((worker) => [
      worker.id,
      worker.isDraining ? 'draining' : 'running',
      numbersOf(worker.units),
      numbersOf(worker.pinned),
      worker.units.filter((unit) => !unit.startsWith('partition:')).join(' ') || '-',
      byteText(worker.memoryBytes),
      String(worker.restarts),
      `${worker.host}/${worker.pid}`,
      worker.startedAt,
    ]),
    style.bold,
  );
}

/** `0 3 7`; many partitions are only counted. */
function numbersOf(units: readonly string[]): string {
  const numbers = units.flatMap((unit) => /^partition:(\d+)$/.exec(unit)?.[1] ?? []);
  if (numbers.length === 0) return '-';
  return numbers.length > 16 ? `${numbers.length} of them` : numbers.join(' ');
}
