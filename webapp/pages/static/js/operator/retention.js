export class Advisor { constructor() {} offer() {} }
