// The parts of the test suite, by name: which files, and what the machine needs for them.

/** Tests beside sources that need no root, no engine and no sandbox; `npm run check` runs them. */
export const unitTests = [
  'protocol/src/**/*.test.ts',
  'operator/src/*.test.ts',
  'operator/src/{auth,gateway,guest-channel,http,sandboxes,secrets,storage,telemetry}/**/*.test.ts',
  'sidecar/src/**/*.test.ts',
  'sdk/src/**/*.test.ts',
  'cli/src/**/*.test.ts',
]

/** `engine`: the files start containers. Every area but `core` starts sandboxes, so the machine gets what those need. */
export const areas = {
  core: {
    files: [
      ...unitTests,
      'tests/{auth,crash,descriptors,front-door,full-disk,lifecycle,pause,reconcile,restart,snapshots,snapshot-crash,walk,bad-input}.test.ts',
      'tests/{architecture,docs}.test.ts',
    ],
    engine: true,
  },
  runtimes: { files: ['operator/src/{runtimes,host,snapshots}/**/*.test.ts', 'tests/engine.test.ts'], engine: true },
  sidecar: { files: ['sidecar/tests/**/*.test.ts', 'tests/{ports,terminals,vite}.test.ts'], engine: true },
  harnesses: {
    files: [
      'sidecar/harnesses/**/*.test.ts',
      'tests/{agent-history,agents,capabilities,gateway-harnesses,harness-image,harness-install,harnesses,history-readers}.test.ts',
    ],
    engine: true,
  },
  gateway: {
    files: ['tests/{audit,canary,egress*,gateway,gateway-hostile,gateway-logins,gateway-upstreams,sealing-key,services}.test.ts'],
    engine: true,
  },
  doors: { files: ['sdk/tests/**/*.test.ts', 'cli/tests/**/*.test.ts', 'tests/{start,examples,bench}.test.ts'], engine: true },
}
