// Prepares a machine: packages, Node modules, engine, base image. Plain JavaScript for the Node that the machine has, before anything
// is installed.
export { attached, command } from './machine/command.mjs'
export { baseImage, engineAnswers, ensureBaseImage, ensureEngine } from './machine/engine.mjs'
export { ensureNodeModules, node24Path, root } from './machine/node-modules.mjs'
export { commandsFor, ensurePackages } from './machine/packages.mjs'
export { Refusal, run, step } from './machine/say.mjs'
