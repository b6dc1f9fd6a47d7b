// Why a bar is not reached, by its name: what the profile shows and what was tried. Printed beside bars that do not hold.
export const reasons: Readonly<Record<string, string>> = {};
