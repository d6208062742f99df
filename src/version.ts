/** The version of this software, as package.json has it (a test compares them). */
export const TIDEMARK_VERSION = '0.1.0';
