/** What errors of the file system mean, and which PipelineError they are. */
import { PipelineError } from '../../errors.ts';

/** `ENOENT` and the like; empty for what is no system error. */
export function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? '';
}

/** Nothing of that name, or the name or one above it is of another kind than an object's would be. */
export function isAbsence(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR', 'EISDIR'].includes(codeOf(error));
}

/**
 * The PipelineError for what node:fs threw.
 * @param name key or path that it happened to
 */
export function fsError(error: unknown, name: string): PipelineError {
  if (error instanceof PipelineError) return error;
  const code = codeOf(error);
  const options = { cause: error, context: { name, errno: code } };
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new PipelineError(
        'unavailable',
        'TM_DISK_FULL',
        'the disk is full; free or add space, the write is retried',
        options,
      );
    case 'EACCES':
    case 'EROFS':
      return new PipelineError(
        'invalid',
        'TM_STORE_DENIED',
        'the file system refuses access; check owner, mode and mount options',
        options,
      );
    // EPERM is how Linux says that a file system (vfat, many FUSE mounts) has no hard links.
    case 'EPERM':
    case 'ENOTSUP':
    case 'EOPNOTSUPP':
    case 'EXDEV':
      return new PipelineError(
        'invalid',
        'TM_STORE_DENIED',
        'the file system does not permit this; atomic commits need hard links: use a POSIX one or S3',
        options,
      );
    case 'EEXIST':
    case 'EISDIR':
    case 'ELOOP':
    case 'ENAMETOOLONG':
    case 'ENOTDIR':
      return new PipelineError(
        'invalid',
        'TM_STORE_DENIED',
        'a file, folder or symbolic link stands where the object or its folder belongs',
        options,
      );
    default:
      return new PipelineError(
        'unavailable',
        'TM_STORE_UNAVAILABLE',
        `the file system failed: ${code || (error as Error).message}`,
        options,
      );
  }
}
