// Prepares a machine: packages, Node modules, engine, base image. Plain JavaScript for the Node that the machine has, before anything
// is installed.
export { attached, command, guarded } from './machine/command.mjs'
export { baseImage, engineAnswers, ensureBaseImage, ensureEngine, packagesForBaseImage } from './machine/engine.mjs'
export { impatience, interruption, withSignals } from './machine/interrupt.mjs'
export { ensureNodeModules, node24Path, root } from './machine/node-modules.mjs'
export { ensurePackages, installPackages, missingPackages } from './machine/packages.mjs'
export { explain, Refusal, run, statusOf, step } from './machine/say.mjs'
