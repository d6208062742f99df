/** The operating system's process, for membership and liveness. */
import { hostname } from 'node:os';
import type { HostProcess } from './pipeline-process.ts';

/** The process this runs in. */
export const hostProcess: HostProcess = {
  host: hostname(),
  pid: process.pid,
  memoryBytes: () => process.memoryUsage.rss(),
  isAlive(pid) {
    try {
      process.kill(pid, 0);
      return true;
    } catch (thrown) {
      // Without permission to signal it, it is there.
      return (thrown as NodeJS.ErrnoException).code === 'EPERM';
    }
  },
};
