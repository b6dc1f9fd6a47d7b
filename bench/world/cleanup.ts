// Ends what a bench started, in reverse order, whatever happens. It stands where tests have `t`.

export class Cleanup {
  private readonly steps: (() => unknown)[] = [];

  teardown(step: () => unknown): void {
    this.steps.push(step);
  }

  async run(): Promise<void> {
    for (let step = this.steps.pop(); step !== undefined; step = this.steps.pop()) {
      try {
        await step();
      } catch (error) {
        console.error(`while cleaning up: ${(error as Error).message}`);
      }
    }
  }
}
